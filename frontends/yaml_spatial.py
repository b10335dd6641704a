"""The layers that move pixels and channels: unpooling, pixel and channel shuffles."""

from __future__ import annotations

import numpy as np

from graphc.frontends.yaml_layers import Ints, Padding, pads, window
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value

MAX_CHANNELS = 1 << 20  # that are put in order: a guard against typing errors


@layer
def unpool(
    c: LayerBuilder, x: Value, places: Value, *, k: Ints = 2, s: Ints | None = None, pad: Padding = "valid"
) -> Value:
    """Put each value back where `maxpool: {indices: true}` found it, zeros elsewhere (Zeiler, Fergus 2013, arXiv:1311.2901).
    k, s and pad are those of the pool, whose input must have had (size - 1)·s + k - pad places."""
    space = c.rank(x, 3, 4, 5) - 2
    if places.dtype != np.int64:
        raise c.fail(
            f"needs the indices of a maxpool, not {places.type}", "maxpool: {indices: true}, as: [pooled, places]"
        )
    kernel = window(c, "k", k, space)
    strides = kernel if s is None else window(c, "s", s, space)
    if pad == "same_upper":
        raise c.fail("pad can't be same_upper here", "give numbers")
    attrs = pads(c, pad, kernel, (1,) * space)
    return c.add("MaxUnpool", x, places, kernel_shape=kernel, strides=strides, **attrs)


@layer
def pixel_shuffle(c: LayerBuilder, x: Value, *, scale: int = 2) -> Value:
    """[batch, c·scale², h, w] to [batch, c, h·scale, w·scale] (Shi et al. 2016, arXiv:1609.05158), in PyTorch's order of
    channels."""
    _divides(c, x, scale * scale, f"scale {scale} squared")
    return c.add("DepthToSpace", x, blocksize=scale, mode="CRD")


@layer
def pixel_unshuffle(c: LayerBuilder, x: Value, *, scale: int = 2) -> Value:
    """The inverse of pixel_shuffle: [batch, c, h·scale, w·scale] to [batch, c·scale², h, w]."""
    c.rank(x, 4)
    channels = c.fixed(x, 1, "the number of channels")
    y = c.add("SpaceToDepth", x, blocksize=scale)  # its channels are [scale², c]
    return c.add("Gather", y, c.const(_swapped(c, scale * scale, channels)), axis=1)


@layer
def channel_shuffle(c: LayerBuilder, x: Value, *, groups: int) -> Value:
    """Channels of all groups in turn: the first of each, then the second of each … (Zhang et al. 2017, arXiv:1707.01083)."""
    channels = _divides(c, x, groups, f"groups {groups}")
    space = x.shape[2:]
    if any(not isinstance(d, int) for d in space):
        return c.add("Gather", x, c.const(_swapped(c, groups, channels // groups)), axis=1)
    apart = c.add("Reshape", x, c.const([0, groups, channels // groups, *space]))
    swapped = c.add("Transpose", apart, perm=(0, 2, 1, *range(3, len(space) + 3)))
    return c.add("Reshape", swapped, c.const([0, channels, *space]))


def _divides(c: LayerBuilder, x: Value, parts: int, what: str) -> int:
    """The number of channels, which must be a multiple of `parts`."""
    c.rank(x, 3, 4, 5)
    channels = c.fixed(x, 1, "the number of channels")
    if parts < 1 or channels % parts:
        raise c.fail(f"{what} does not divide {channels} channels")
    return channels


def _swapped(c: LayerBuilder, outer: int, inner: int) -> list[int]:
    """Where the entries of [inner, outer] stand in [outer, inner], which are channels."""
    if outer * inner > MAX_CHANNELS:
        raise c.fail(f"gives {outer * inner} channels", f"at most {MAX_CHANNELS}")
    return np.arange(outer * inner).reshape(outer, inner).T.reshape(-1).tolist()

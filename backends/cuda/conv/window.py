"""Where the windows of convolutions and pools lie: along each axis, for images of up to three."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.backends.cuda.codegen.widths import sure_divisor
from graphc.backends.cuda.lower.epilogue import Ending, Walked
from graphc.backends.cuda.lower.sizes import NOWHERE
from graphc.backends.cuda.product.product_block import BATCH
from graphc.graph import Node
from graphc.lower.storage import Storage
from graphc.ops.window import geometry
from graphc.report import StepInfo
from graphc.types import numbers

RUN = 4  # neighbouring channels that a thread takes at once


@dataclass(frozen=True)
class Axis:
    """Window o of `out` reads positions o * stride - begin + taps[i] of `size`; tap i is number kernel[i] of the weights."""

    size: int
    out: int
    stride: int
    begin: int
    taps: tuple[int, ...]
    kernel: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Does each output read the position at its own place?"""
        return self.taps == (0,) and self.stride == 1 and self.begin == 0 and self.size == self.out


ALONE = Axis(1, 1, 1, 0, (0,), (0,))  # an axis that an image does not have


def axes_of(node: Node) -> tuple[Axis, ...]:
    """Depth, height, width; missing ones have size 1. Of an operator whose windows are those of a convolution."""
    g = geometry(node.call)
    spatial, outs = numbers(node.inputs[0].shape[2:]), numbers(node.output.shape[2:])
    each = zip(spatial, outs, numbers(g.kernel), g.strides, g.dilations, numbers(g.pads_begin))
    found = [Axis(n, o, s, p, tuple(d * i for i in range(k)), tuple(range(k))) for n, o, k, s, d, p in each]
    return (*(ALONE,) * (3 - len(found)), *found)


def is_deep(axes: Sequence[Axis]) -> bool:
    """Have images a depth?"""
    return axes[0] != ALONE


def dhw(names: str, *triples: Iterable[Any]) -> dict[str, Any]:
    """Words by names from a triple for each name.

    >>> dhw("k s", (1, 3, 5), (1, 2, 2))
    {'k_d': 1, 'k_h': 3, 'k_w': 5, 's_d': 1, 's_h': 2, 's_w': 2}
    """
    pairs = zip(names.split(), triples, strict=True)
    return {f"{name}_{axis}": word for name, words in pairs for axis, word in zip("dhw", words, strict=True)}


def five(strides: Sequence[int]) -> tuple[int, ...]:
    """Byte strides of [n, channel, d, h, w]; missing dims have 0."""
    n, c, *spatial = strides
    return (n, c, *(0,) * (3 - len(spatial)), *spatial)


def channels_last(w: Walked) -> bool:
    """Are neighbours in memory neighbouring channels of a pixel?"""
    return w.strides[1] == w.dtype.itemsize and w.strides[-1] != w.dtype.itemsize


def with_orders(info: StepInfo, x: Storage, ending: Ending) -> StepInfo:
    """Tell where the image and the result have their channels in memory."""
    ends = dict.fromkeys(
        "channels last" if last else "channels first" for last in (x.channels_last, channels_last(ending.result))
    )
    return replace(info, reason=f"{info.reason}, {' to '.join(ends)}")


def runs_of(ending: Ending, channels: int) -> tuple[int, tuple[bool, ...]]:
    """How many neighbouring channels a thread finishes at once, 0 where neighbouring threads have neighbouring pixels; and which
    operands have such runs of them. channels: of which there are none behind."""
    if not channels_last(ending.result):
        return 0, (False,) * len(ending.operands)
    result, *others = (channels % RUN == 0 and has_runs(w) for w in ending.every)
    return (RUN, tuple(others)) if result else (1, (False,) * len(others))


def has_runs(w: Walked) -> bool:
    """Do RUN channels lie side by side, at a multiple of their bytes?"""
    whole = RUN * w.dtype.itemsize
    if w.strides[1] != w.dtype.itemsize:
        return False
    return sure_divisor(whole, w.ref.offset, w.strides[0], *w.strides[2:]) == whole


def place_words(axes: Sequence[Axis], strides: Sequence[int]) -> dict[str, int]:
    """Words of a block that say where windows begin. strides: of the image, as of `five`."""
    _, out_h, out_w = (a.out for a in axes)
    return dict(
        out_h=out_h, out_w=out_w,
        **dhw("in s p x", [a.size for a in axes], [a.stride for a in axes], [a.begin for a in axes], strides[2:]),
    )  # fmt: skip


def table_of(axes: Sequence[Axis], channels: int, strides: Sequence[int], whole: int) -> np.ndarray:
    """A row for each tap of each channel: bytes from a window's first position, its place along h and w (upper and lower
    half), along d. strides: as of `five`. Then rows that lie nowhere, to a multiple of `whole`."""
    d, h, w = np.meshgrid(*[np.array(a.taps, np.int64) for a in axes], indexing="ij")
    taps = [x.reshape(1, -1) for x in (d, h, w)]
    there = sum((x * s for x, s in zip(taps, strides[2:])), np.zeros((1, d.size), np.int64))
    count = channels * d.size
    table = np.zeros((max(1, -(-count // whole)) * whole, 3), np.int64)
    table[count:, 1] = NOWHERE
    shape = (channels, d.size)
    table[:count, 0] = (there + np.arange(channels)[:, None] * strides[1]).reshape(-1)
    table[:count, 1] = np.broadcast_to((taps[1] << 32) + taps[2], shape).reshape(-1)
    table[:count, 2] = np.broadcast_to(taps[0], shape).reshape(-1)
    return table


def part_of(w: Walked, first: Sequence[int], step: Sequence[int]) -> Walked:
    """Every step-th element along the spatial dims, from number `first` on; both as (d, h, w)."""
    n, c, *spatial = five(w.strides)
    ref = w.ref + sum(f * s for f, s in zip(first, spatial))
    return Walked(ref, w.dtype, (n, c, *(k * s for k, s in zip(step, spatial))))


def record(w: Walked, per_out: int) -> dict[str, Any]:
    """A record of the result or an operand. Batch dims: groups of `per_out` channels, then images."""
    n, c, d, h, width = five(w.strides)
    return {"ref": w.ref, "columns": (width, h, d), "row": c, "batch": padded((per_out * c, n), 0)}


def padded(values: Sequence[int], fill: int) -> tuple[int, ...]:
    """As many as a block has batch dims."""
    return (*values, *(fill,) * (BATCH - len(values)))

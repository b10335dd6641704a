"""The layers that turn pictures into what networks read: decoding, sizes, crops, order of axes, dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from graphc.frontends.yaml_layers import Ints
from graphc.frontends.yaml_literals import DTYPES
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.frontends.yaml_syntax import did_you_mean
from graphc.graph import Value

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601


@layer
def decode(c: LayerBuilder, x: Value, *, colours: Literal["rgb", "bgr", "grey"] = "rgb") -> Value:
    """The bytes of a picture's file (uint8 [n]: JPEG, PNG, WebP, BMP …) as uint8 [1, height, width, channels]."""
    if x.dtype != np.uint8 or len(x.shape) != 1:
        raise c.fail(f"needs the bytes of a file, not {x.type}", "inputs: {file: {shape: [bytes], dtype: uint8}}")
    formats = {"rgb": "RGB", "bgr": "BGR", "grey": "Grayscale"}
    return c.add("Unsqueeze", c.add("ImageDecoder", x, pixel_format=formats[colours]), c.const([0]))


@layer
def to_nchw(c: LayerBuilder, x: Value) -> Value:
    """[batch, height, width, channels] to [batch, channels, height, width]."""
    c.rank(x, 4, hint="of [height, width, channels] make a batch: unsqueeze: {axes: 0}")
    return c.add("Transpose", x, perm=(0, 3, 1, 2))


@layer
def cast(c: LayerBuilder, x: Value, *, to: str) -> Value:
    """Another dtype; floats that become whole numbers are cut off."""
    if to not in DTYPES:
        raise c.fail(f"unknown dtype '{to}'", did_you_mean(to, DTYPES))
    return c.add("Cast", x, to=np.dtype(to))


@layer
def resize(
    c: LayerBuilder,
    x: Value,
    *,
    size: Ints | None = None,
    shorter: int | None = None,
    mode: Literal["linear", "cubic", "nearest"] = "linear",
    antialias: bool = True,
) -> Value:
    """Another size of [batch, channels, height, width]: `size`, both or [height, width]; or `shorter`, the shorter side, while the
    shape stays. antialias: where it shrinks, all pixels count, as in Pillow and torchvision; whole numbers are rounded."""
    c.rank(x, 4, hint="put `to_nchw` before it")
    if (size is None) == (shorter is None):
        raise c.fail("needs either 'size' or 'shorter'", "resize: {shorter: 256}")
    sizes = _pair(c, "size", size if shorter is None else shorter)
    attrs: dict[str, Any] = {"mode": mode, "axes": (2, 3)}
    if shorter is not None:
        attrs["keep_aspect_ratio_policy"] = "not_smaller"
    if mode == "nearest":
        attrs |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif antialias:
        attrs |= {"antialias": True, "exclude_outside": True, "cubic_coeff_a": -0.5}
    return c.add("Resize", x, None, None, c.const(sizes), **attrs)


@layer
def crop(c: LayerBuilder, x: Value, *, size: Ints) -> Value:
    """The centre of [batch, channels, height, width]: both sizes or [height, width]. Where it is larger, zeros around."""
    c.rank(x, 4, hint="put `to_nchw` before it")
    return c.add("CenterCropPad", x, c.const(_pair(c, "size", size)), axes=(2, 3))


def _pair(c: LayerBuilder, name: str, value: Any) -> list[int]:
    sizes = [value, value] if isinstance(value, int) else list(value)
    if len(sizes) != 2 or min(sizes) < 1:
        raise c.fail(f"{name} must be a positive number, or two: [height, width]")
    return sizes


@layer
def flip(c: LayerBuilder, x: Value, *, axis: int = -1) -> Value:
    """In the opposite order along an axis: the last one mirrors [batch, channels, height, width]."""
    info = np.iinfo(np.int64)
    return c.add("Slice", x, *(c.const([v]) for v in (-1, info.min, axis, -1)))


@layer
def grayscale(c: LayerBuilder, x: Value, *, channels: int = 1) -> Value:
    """The brightness of [batch, 3, height, width], red, green and blue: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), in one channel
    or in each of three. Whole numbers are rounded."""
    c.rank(x, 4, hint="put `to_nchw` before it")
    if c.fixed(x, 1, "the number of channels") != 3:
        raise c.fail(f"needs 3 channels, not {x.type}", "put `to_nchw` before it where channels are last")
    if channels not in (1, 3):
        raise c.fail(f"channels must be 1 or 3, not {channels}")

    def luma(x: Value) -> Value:
        return c.add("Conv", x, c.const(np.broadcast_to(np.reshape(LUMA, (1, 3, 1, 1)), (channels, 3, 1, 1)), x.dtype))

    return _in_floats(c, x, luma)


def _in_floats(c: LayerBuilder, x: Value, compute: Callable[[Value], Value]) -> Value:
    """What is computed of whole numbers in float32, and rounded."""
    if x.dtype.kind == "f":
        return compute(x)
    y = c.add("Round", compute(c.add("Cast", x, to=np.dtype(np.float32))))
    return c.add("Cast", y, to=x.dtype)

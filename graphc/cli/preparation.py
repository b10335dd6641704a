"""What is made of a picture, so that a model can read it: its size, its channels and their order, the values of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.cli.specs import shape_text
from graphc.dtypes import is_float
from graphc.errors import InputError
from graphc.pictures import decode, resized
from graphc.signature import Spec
from graphc.words import many

GREY = 114  # around a picture that is made to fit, as detectors are trained with
CHANGE = "--resize, --fit, --mean, --std, --scale and --pixels change it"
CHANNELS = ("c", "channel", "channels", "num_channels", "in_channels")  # names of a dim
FORMATS = {"rgb": "RGB", "bgr": "BGR", "grey": "Grayscale"}
BILINEAR = 2


@dataclass(frozen=True)
class Preparation:
    """(pixel · scale - mean) / std of a picture that was resized, cut to what the input wants, and given its channels.

    resize: the shorter side, or (height, width); None: as `fit` says
    fit:    how a picture of another shape gets the input's: 'crop' covers it and cuts the middle out, 'stretch', 'pad' fills up
    scale, mean, std, pixels: None where nobody says; then the model's file does, or 1/255, 0, 1 and 'rgb'
    crop:     the size that is cut out where the input's is open
    resample: Pillow's number of the filter
    source:   whose words these are, where it is not the user
    problem:  why no picture can be prepared
    """

    resize: tuple[int, ...] = ()
    fit: str = "crop"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    pixels: str | None = None
    crop: tuple[int, ...] = ()
    resample: int = BILINEAR
    source: str = ""
    problem: str = ""

    @property
    def values_given(self) -> bool:
        return any(v is not None for v in (self.mean, self.std, self.scale))


def prepared_picture(data: bytes, spec: Spec, what: str, how: Preparation, tell: Callable[[str], None]) -> np.ndarray:
    """A picture's file as an input has it: its bytes (uint8 [bytes]), or its pixels, with a batch of one where the input has a batch.

    Pixels of an uint8 input are as they are; of floats they are scaled. What is made of them is told. Raises InputError where the
    input is for no picture, and for what is no picture that can be read.
    """
    shape = spec.shape or ()
    if spec.content is None and spec.dtype == np.uint8 and len(shape) == 1:
        return np.frombuffer(data, np.uint8)
    floats = spec.dtype is not None and is_float(spec.dtype)
    axis = _channels_at(shape)
    if spec.content is not None or axis is None or not (floats or spec.dtype == np.uint8):
        raise InputError(
            f"input '{spec.name}' is {shape_text(spec.shape)} of {spec.dtype}, and '{what}' a picture",
            hint="pictures are uint8 or floats [1, 3, height, width] or [1, height, width, 3]: a YAML file can make of them what a "
            "net wants, by `preprocess`; or give the prepared array as a .npy file",
        )
    if how.problem:
        raise InputError(how.problem, hint="give the prepared array as a .npy file")
    dims = shape[-3:]
    channels, (height, width) = dims[axis], [d for i, d in enumerate(dims) if i != axis]
    colours = how.pixels or ("grey" if channels == 1 else "rgb")
    if isinstance(channels, int) and (channels == 1) != (colours == "grey"):
        hint = "--pixels grey" if channels == 1 else "--pixels rgb, or bgr"
        raise InputError(
            f"input '{spec.name}' has {many(channels, 'channel')}, and pixels are to be {colours}", hint=hint
        )
    try:
        pixels = decode(data, FORMATS[colours], upright=True)
    except InputError as error:
        raise InputError(f"'{what}': {error.message}", hint=error.hint) from None
    size = tuple(d if isinstance(d, int) else None for d in (height, width))
    pixels, said = _sized(pixels, size, how, what)
    array, scaled = _valued(pixels, spec, how, colours)
    array = np.ascontiguousarray(array.transpose(2, 0, 1) if axis == 0 else array)
    said = [colours.upper() if colours != "grey" else colours, *said, *scaled]
    if floats or len(said) > 1 or axis == 0:
        given = [f"of {how.source}"] if how.source else []
        order = "channels first" if axis == 0 else "channels last"
        tell(f"pictures as input '{spec.name}': {', '.join((*said, order, *given))}; {CHANGE}")
    return array if len(shape) == 3 else array[None]


def _channels_at(shape: Sequence[int | str]) -> int | None:
    """Of the last three dims of [channels, height, width], [height, width, channels] or a batch of those; None where no dim can be
    that of the channels."""
    if len(shape) not in (3, 4):
        return None
    for axis, dim in ((0, shape[-3]), (2, shape[-1])):
        if dim in (1, 3) or str(dim).lower() in CHANNELS:
            return axis
    return None


def _sized(
    pixels: np.ndarray, size: tuple[int | None, ...], how: Preparation, what: str
) -> tuple[np.ndarray, list[str]]:
    """The picture in the size that the input wants, None for an open one; and what was done."""
    height, width = pixels.shape[:2]
    said = []
    if how.resize:
        if len(how.resize) == 2:
            new = (how.resize[0], how.resize[1])
            said.append(f"resized to {new[0]}×{new[1]}")
        else:
            new = _shorter(height, width, how.resize[0])
            said.append(f"the shorter side resized to {how.resize[0]}")
        pixels = resized(pixels, *new, how.resample)
    open_ = how.crop or pixels.shape[:2]
    wanted = tuple(want or have for want, have in zip(size, open_))
    if how.resize and any(n < w for n, w in zip(pixels.shape, wanted)):
        raise InputError(
            f"'{what}' is {pixels.shape[0]}×{pixels.shape[1]} after resizing, and the model wants {wanted[0]}×{wanted[1]}",
            hint="a larger --resize, or none",
        )
    if not how.resize and (height, width) != wanted:
        to = f"{wanted[0]}×{wanted[1]}"
        if how.fit == "stretch":
            return resized(pixels, *wanted), [f"stretched to {to}"]
        ratios = [w / n for w, n in zip(wanted, (height, width))]
        if how.fit == "pad":
            return _padded(resized(pixels, *_scaled(height, width, min(ratios))), wanted), [f"fit into {to} on grey"]
        new = _scaled(height, width, max(ratios))
        pixels = resized(pixels, max(new[0], wanted[0]), max(new[1], wanted[1]))
        return _middle(pixels, wanted), [f"made to cover {to}, the middle cut out"]
    if pixels.shape[:2] != wanted:
        pixels = _middle(pixels, wanted)
        said.append(f"the middle {wanted[0]}×{wanted[1]} cut out")
    return pixels, said


def _shorter(height: int, width: int, size: int) -> tuple[int, int]:
    """The size whose shorter side is `size`; the longer one is cut off to a whole number, as torchvision does it."""
    return (size, size * width // height) if height < width else (size * height // width, size)


def _scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    return max(1, round(height * factor)), max(1, round(width * factor))


def _middle(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    top, left = ((n - want) // 2 for n, want in zip(pixels.shape, size))
    return pixels[top : top + size[0], left : left + size[1]]


def _padded(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    made = np.full((*size, pixels.shape[2]), GREY, np.uint8)
    top, left = ((want - n) // 2 for n, want in zip(pixels.shape, size))
    made[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return made


def _valued(pixels: np.ndarray, spec: Spec, how: Preparation, colours: str) -> tuple[np.ndarray, list[str]]:
    """The pixels in the input's dtype, and what was done."""
    if spec.dtype == np.uint8:
        if how.values_given and not how.source:
            raise InputError(
                f"input '{spec.name}' is uint8: pixels as they are", hint="leave --mean, --std and --scale"
            )
        return pixels, []
    scale, mean, std = 1 / 255 if how.scale is None else how.scale, how.mean or (0.0,), how.std or (1.0,)
    for option, numbers in (("--mean", mean), ("--std", std)):
        if len(numbers) not in (1, pixels.shape[2]):
            raise InputError(
                f"{option} has {many(len(numbers), 'number')}, for {many(pixels.shape[2], 'channel')} ({colours})"
            )
    if how.scale is None and max(np.abs(mean)) > 1:
        raise InputError(
            f"--mean {_listed(mean)} is of pixels from 0 to 255, which are divided by 255", hint="add --scale 1"
        )
    values = (pixels.astype(np.float32) * np.float32(scale) - np.array(mean, np.float32)) / np.array(std, np.float32)
    said = [_factor(scale)]
    if any(mean):
        said.append(f"less {_listed(mean)}")
    if any(s != 1 for s in std):
        said.append(f"over {_listed(std)}")
    return values.astype(spec.dtype), said


def _factor(scale: float) -> str:
    return (
        f"pixels / {1 / scale:.6g}"
        if 0 < scale < 1
        else f"pixels · {scale:g}"
        if scale != 1
        else "pixels from 0 to 255"
    )


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{n:g}" for n in numbers)

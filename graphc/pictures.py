"""Files of pictures -> arrays, by Pillow, an extra that is asked for only when a picture comes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from graphc.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}  # ONNX's names and Pillow's modes
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def decode(data: bytes, pixel_format: str = "RGB", upright: bool = False) -> np.ndarray:
    """A picture as uint8 [height, width, channels]: 3 channels, or 1 of pixel_format 'Grayscale' (ITU-R 601 luma).

    upright: turned as its EXIF entry says, as cameras write it. Raises InputError for what is no picture of 8 bits a channel, and
    where Pillow is missing.
    """
    image = _open(data)
    if upright:
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        raise InputError(f"a picture with pixels of mode '{image.mode}'", hint="save it with 8 bits a channel")
    array = np.asarray(image.convert(FORMATS[pixel_format]))
    if pixel_format == "Grayscale":
        return array[:, :, None]
    return np.ascontiguousarray(array[:, :, ::-1]) if pixel_format == "BGR" else array


def resized(pixels: np.ndarray, height: int, width: int, resample: int = 2) -> np.ndarray:
    """A picture of uint8 [height, width, channels] in another size; where it shrinks, all pixels count. resample: Pillow's number of
    the filter, 2 is bilinear. Raises ValueError for an unknown one."""
    if pixels.shape[:2] == (height, width):
        return pixels
    from PIL import Image

    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[:, :, 0] if grey else pixels).resize((width, height), Image.Resampling(resample))
    made = np.asarray(image)
    return made[:, :, None] if grey else made


def _open(data: bytes) -> Image:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError(
            "Pillow, which reads pictures, is not installed", hint="pip install 'graphc[images]'"
        ) from None
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return image
    except Image.DecompressionBombError as error:
        raise InputError(f"a picture that is too large: {error}", hint="make it smaller") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
    ) as error:  # Pillow's readers raise all of these for damaged files
        if "cannot identify" in str(error):
            raise InputError(
                "no picture that can be read: its format is not known", hint=f"known: {', '.join(SUFFIXES)}"
            ) from None
        raise InputError(f"a damaged picture: {error}", hint="get the file again") from None

"""ImageDecoder: the bytes of a file to pixels. It runs on the host: no backend compiles it."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, register
from graphc.ops.index import dim_of_data
from graphc.pictures import FORMATS, decode
from graphc.types import TensorType


def _decoded(call: Call) -> list[TensorType]:
    """[height, width, channels], of which the bytes tell the first two."""
    x = call.type(0)
    if x.dtype != np.uint8 or x.rank != 1:
        raise call.fail("takes the bytes of a picture's file: uint8 of rank 1")
    channels = 1 if call.attrs.pixel_format == "Grayscale" else 3
    return [x.with_shape((dim_of_data(call, 0, detail=", height"), dim_of_data(call, 0, detail=", width"), channels))]


def png(pixels: np.ndarray) -> bytes:
    """The file of a picture [height, width, 3] (https://www.w3.org/TR/png-3)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(np.uint8))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


_SAMPLE = Const(list(png(np.arange(2 * 5 * 3).reshape(2, 5, 3) * 8)), "uint8")

register(
    Op(
        "ImageDecoder",
        ("encoded_stream",),
        _decoded,
        reference=lambda encoded_stream, pixel_format: decode(encoded_stream.tobytes(), pixel_format),
        attrs={"pixel_format": Attr(str, "RGB", tuple(FORMATS))},
        tolerance=0.0,
        samples=Samples(("uint8",), cases=tuple(Case((_SAMPLE,), {"pixel_format": form}) for form in FORMATS)),
        family=Family.INDEX,
    )
)

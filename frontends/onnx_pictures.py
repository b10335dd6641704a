"""How the pictures look that an ONNX model reads: the standard's entries `Image.…` of its metadata (MetadataProps.md)."""

from __future__ import annotations

from onnx import ModelProto

KEYS = ("Image.BitmapPixelFormat", "Image.ColorSpaceGamma", "Image.NominalPixelRange")


def read_pictures(model: ModelProto) -> dict[str, str]:
    """The entries that there are, as they are written."""
    return {p.key: p.value for p in model.metadata_props if p.key in KEYS}

"""What a model's files say of its pictures: the entries `Image.…` of ONNX metadata, and the `preprocessor_config.json` that Hugging
Face's exporters write beside a model."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphc.cli.preparation import Preparation

NAME = "preprocessor_config.json"
LONGEST = 1 << 20  # bytes of such a file
OF_PICTURES = ("image_mean", "image_std", "do_resize", "rescale_factor", "crop_size")  # one of these keys
WHOLE = 384  # from this size on, a processor with crop_pct cuts nothing out

BITMAPS = {"Rgb8": "rgb", "Bgr8": "bgr", "Gray8": "grey"}  # Image.BitmapPixelFormat
RANGES = {  # Image.NominalPixelRange: (scale, mean) of pixel · scale - mean
    "NominalRange_0_255": (1.0, 0.0),
    "Normalized_0_1": (1 / 255, 0.0),
    "Normalized_1_1": (2 / 255, 1.0),
    "NominalRange_16_235": (219 / 255, -16.0),
}
KNOWN: dict[str, Collection[str]] = {
    "Image.BitmapPixelFormat": BITMAPS,
    "Image.NominalPixelRange": RANGES,
    "Image.ColorSpaceGamma": ("SRGB",),
}


def described(how: Preparation, said: Mapping[str, Any], model: str | Path) -> Preparation:
    """The preparation with what the metadata of an ONNX file say, else the configuration beside it; options go before both.

    said: `Model.described`
    """
    metadata = {k: v for k, v in said.get("metadata", {}).items() if k in KNOWN}
    if not metadata:
        return _with_config(how, Path(model))
    bitmap, values = metadata.get("Image.BitmapPixelFormat"), metadata.get("Image.NominalPixelRange")
    for key, known in KNOWN.items():
        if (value := metadata.get(key)) is not None and value not in known:
            message = f"the model's metadata say '{key}: {value}', which is not made of pictures"
            return replace(how, problem=f"{message}; known: {', '.join(known)}")
    made = how if bitmap is None or how.pixels else replace(how, pixels=BITMAPS[bitmap])
    if values is not None and not how.values_given:
        scale, mean = RANGES[values]
        made = replace(made, scale=scale, mean=(mean,))
    return made if made is how else replace(made, source="the model's metadata")


def _with_config(how: Preparation, model: Path) -> Preparation:
    """The preparation with what the file beside the model says, where options do not; as it is where there is none of pictures."""
    path = model.parent / NAME
    try:
        if not path.is_file() or path.stat().st_size > LONGEST:
            return how
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return replace(how, problem=f"'{path}' can't be read")
    if not isinstance(config, dict) or not any(key in config for key in OF_PICTURES):
        return how
    try:
        return _completed(how, config)
    except (TypeError, ValueError, KeyError, AttributeError):
        return replace(how, problem=f"'{path}' says what graphc does not know")


def _completed(how: Preparation, config: Mapping[str, Any]) -> Preparation:
    """Raises an error of Python's for what is not known."""
    made = replace(how, source=NAME)
    if not how.values_given:
        scale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        mean = std = None
        if config.get("do_normalize", "image_mean" in config):
            mean, std = (tuple(map(float, config[key])) for key in ("image_mean", "image_std"))
        made = replace(made, scale=scale, mean=mean, std=std)
    if how.pixels is None and config.get("do_flip_channel_order"):
        made = replace(made, pixels="bgr")
    if how.resize:
        return made
    crop = _size(config["crop_size"]) if config.get("do_center_crop") else ()
    if not config.get("do_resize", "size" in config):
        return replace(made, crop=crop)
    size, resample = config["size"], int(config.get("resample", 2))
    if isinstance(size, int):
        size = {"shortest_edge": size} if crop else {"height": size, "width": size}
    if set(size) == {"height", "width"}:
        return replace(made, resize=_size(size), crop=crop, resample=resample)
    if set(size) != {"shortest_edge"}:
        raise ValueError
    edge, part = int(size["shortest_edge"]), config.get("crop_pct")
    if part is None:
        return replace(made, resize=(edge,), crop=crop, resample=resample)
    whole = edge >= WHOLE
    return replace(made, resize=(edge, edge) if whole else (int(edge / part),), crop=(edge, edge), resample=resample)


def _size(given: Any) -> tuple[int, ...]:
    return (int(given["height"]), int(given["width"])) if isinstance(given, Mapping) else (int(given), int(given))

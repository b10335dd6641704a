"""Random inputs that suit a file: by the names, types and dims of its inputs, and by what it does with them."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import onnx

# Words in the name of an open dim: its size. The first that fits counts.
SIZES = {
    "batch": 1, "height": 320, "width": 320, "seq": 64, "src": 12, "tgt": 8, "len": 64, "time": 50, "frames": 200,
}  # fmt: skip
IMAGE = (320, 320)  # of images whose file leaves it open: a multiple of the strides
TEXT_LINE = 320  # pixels of a line of text
DEFAULT_IDS = 20

# Files that need more than their inputs tell, by a pattern of 'package version/path'. A tuple is a shape, the rest are values.
OVERRIDES: dict[str, dict[str, Any]] = {
    "*silero_vad_legacy.onnx": {"input": (1, 1536)},
    "openwakeword*silero_vad.onnx": {"input": (1, 1280)},
    "*silero_vad*.onnx": {"input": (1, 576)},
    "*silero_vad_16k_sequence.onnx": {"input": (32, 576)},
    "faster-whisper*": {"input": (32, 576)},
    "*ch_PP-OCRv4_rec*": {"x": (1, 3, 48, 320)},
    "*ch_PP-OCRv2_rec*": {"x": (1, 3, 32, 320)},
    "*ch_ppocr_mobile_v2.0_cls*": {"x": (1, 3, 48, 192)},
    "*cls/cls.onnx": {"x": (1, 3, 48, 192)},
    "*cls-model.onnx": {"x": (1, 3, 48, 192)},
    "*melspectrogram.onnx": {"input": (1, 16000)},
}
STATES = ("h", "c", "h0", "c0", "state", "hidden")  # of recurrent nets: within tanh's range
NAMED = {"sr": 16000}  # inputs of this name have this value, whatever the file


def feeds_of(path: Path, name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """An array for every input without a default."""
    model = onnx.load(path, load_external_data=False)
    weights = {t.name for t in model.graph.initializer}
    given = next((v for pattern, v in OVERRIDES.items() if fnmatch(name, pattern)), {})
    rng = np.random.default_rng(seed)
    return {
        v.name: _array(v, given.get(v.name, NAMED.get(v.name)), _rows(model, v.name), rng)
        for v in model.graph.input
        if v.name not in weights
    }


def _array(value: onnx.ValueInfoProto, given: Any, rows: int | None, rng: np.random.Generator) -> np.ndarray:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = given if isinstance(given, tuple) else _shape(value.name, tensor.shape.dim)
    if given is not None and not isinstance(given, tuple):
        return np.full(shape, given, dtype)
    if dtype == np.bool_:
        return np.ones(shape, dtype)
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype)
    if dtype.kind in "iu":
        return rng.integers(1, rows or DEFAULT_IDS, shape, dtype)
    return _real(value.name, shape, rng).astype(dtype)


def _real(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name in STATES:
        return np.tanh(rng.standard_normal(shape))
    if len(shape) == 2 and shape[-1] >= 512:  # sound: small numbers around 0
        return 0.1 * rng.standard_normal(shape)
    if len(shape) == 4 and shape[1] in (1, 3) and min(shape[2:]) >= 32:
        return np.stack([picture(*shape[2:], shape[1], rng).transpose(2, 0, 1) for _ in range(shape[0])])
    if len(shape) == 4 and shape[3] == 3:
        return np.stack([picture(*shape[1:], rng) for _ in range(shape[0])])
    return rng.standard_normal(shape)


def picture(height: int, width: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """[height, width, channels], from about -1 to 1: a page with lines of dark signs. Detectors find nothing in noise, and what
    they then say is the tail of a sigmoid."""
    rows, columns = -(-height // 32), -(-width // 16)
    signs = rng.random((rows, columns, 5, 3)) < 0.6
    cells = np.zeros((rows, columns, 32, 16))
    cells[:, :, 6:26, 2:14] = signs.repeat(4, 2).repeat(4, 3)
    ink = cells.transpose(0, 2, 1, 3).reshape(rows * 32, columns * 16)[:height, :width]
    return (1 - 2 * ink)[..., None] + 0.1 * rng.standard_normal((height, width, channels))


def _shape(name: str, dims: Any) -> tuple[int, ...]:
    sizes: list[int] = []
    for i, dim in enumerate(dims):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            sizes.append(dim.dim_value)
        elif name in STATES or i == 0 and not _by_name(dim.dim_param) or "batch" in dim.dim_param.lower():
            sizes.append(1)
        elif len(dims) == 4 and not _by_name(dim.dim_param):
            line = i == 3 and sizes[2] in (48, 64)
            sizes.append(TEXT_LINE if line else IMAGE[i - 2])
        else:
            sizes.append(_by_name(dim.dim_param) or 64)
    return tuple(sizes)


def _by_name(name: str) -> int | None:
    return next((size for word, size in SIZES.items() if word in name.lower()), None)


def _rows(model: onnx.ModelProto, name: str) -> int | None:
    """How many rows the table has that an input looks up: its numbers stay below that."""
    shapes: dict[str, tuple[int, ...]] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    same = {name}
    for node in model.graph.node:
        first = node.input[0] if node.input else ""
        if node.op_type in ("Identity", "Cast", "Reshape", "Unsqueeze", "Transpose") and first in same:
            same.add(node.output[0])
        elif node.op_type in ("Identity", "DequantizeLinear") and first in shapes:
            shapes[node.output[0]] = shapes[first]
        elif node.op_type == "Gather" and first in shapes and node.input[1] in same:
            return shapes[first][0]
    return None


def shapes_of(feeds: Mapping[str, np.ndarray]) -> list[str]:
    """As options of graphc's commands."""
    return [word for name, a in feeds.items() for word in ("--shape", f"{name}={','.join(map(str, a.shape))}")]

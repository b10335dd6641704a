"""Small ONNX models, pictures and sounds in files."""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from graphc.cli import main

TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
}
Ends = Mapping[str, tuple[str, Sequence[int | str]]]


def save_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Ends,
    outputs: Ends,
    weights: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """inputs, outputs: (dtype, shape) by name."""
    made = [
        [helper.make_tensor_value_info(n, TYPES[t], shape) for n, (t, shape) in e.items()] for e in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", *made, initializers)
    domains = {n.domain for n in nodes} | {""}
    opsets = [helper.make_opsetid(d, 3 if d else 18) for d in domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path


def identity(path: Path, dtype: str, shape: Sequence[int | str], metadata: Mapping[str, str] | None = None) -> Path:
    """y = x."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return save_model(path, [node], {"x": (dtype, shape)}, {"y": (dtype, shape)}, metadata=metadata)


def save_sound(path: Path, frames: np.ndarray, rate: int = 8000) -> Path:
    """frames: little-endian [frames, channels]; 24 bits as bytes [frames, channels, 3]."""
    with wave.open(str(path), "wb") as f:
        f.setnchannels(frames.shape[1])
        f.setsampwidth(3 if frames.ndim == 3 else frames.dtype.itemsize)
        f.setframerate(rate)
        f.writeframes(frames.tobytes())
    return path


def run(*args: object, code: int = 0, stdin: bytes | None = None) -> Result:
    """graphc run, in NumPy."""
    given = ["run", *map(str, args), "--target", "reference"]
    result: Any = CliRunner().invoke(main, given, input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result

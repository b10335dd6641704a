"""Runs a script with ONNX Runtime on one thread and with exact sums of bytes: `python case_runner.py SCRIPT`.

Its DynamicQuantizeLSTM depends on the number of threads (see findings/), and its products by int8 weights saturate on a CPU
without VNNI, unless asked for precision.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import onnx
import onnxruntime as ort


def own_zero_points(model: bytes) -> bytes:
    """With precision, ONNX Runtime 1.32 refuses a DynamicQuantizeLSTM whose two weights have one zero point: each gets its own."""
    proto = onnx.load_from_string(model)
    for node in proto.graph.node:
        if node.op_type == "DynamicQuantizeLSTM" and node.input[9] == node.input[11]:
            own = next(t for t in proto.graph.initializer if t.name == node.input[11])
            node.input[11] += " of R"
            proto.graph.initializer.add().CopyFrom(own)
            proto.graph.initializer[-1].name = node.input[11]
    return proto.SerializeToString()


def session(
    model: str | bytes,
    options: ort.SessionOptions | None = None,
    *args: Any,
    make: Any = ort.InferenceSession,
    **more: Any,
) -> ort.InferenceSession:
    options = options or ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    return make(own_zero_points(model) if isinstance(model, bytes) else model, options, *args, **more)


if __name__ == "__main__":
    ort.InferenceSession = session
    runpy.run_path(sys.argv[1], run_name="__main__")

#!/usr/bin/env bash
# Shrink: ONNX Runtime takes float64 and whole numbers through float32.
#
# The standard has Shrink for every number type, with the type of the input for the result: x - bias above lambd, x + bias below
# -lambd, else 0. ONNX Runtime's CPU kernel has a kernel for each type, and computes each element in the type of the attributes,
# which is float32: of a float64 the digits behind the 24th are lost even where bias is 0 and x should come back as it is, and so
# are those of an int64 above 2**24.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6 (CPU), bias 0, lambd 0.5:
#   float64 0.7 -> 0.699999988079071; -1.2 -> -1.2000000476837158
#   int64 16777217 -> 16777216
#   onnx's reference evaluator gives 0.7, -1.2 and 16777217
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def shrunk(x, kind):
    graph = helper.make_graph(
        [helper.make_node("Shrink", ["x"], ["y"], bias=0.0, lambd=0.5)], "g",
        [helper.make_tensor_value_info("x", kind, x.shape)], [helper.make_tensor_value_info("y", kind, x.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    runtime = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    reference = ReferenceEvaluator(model).run(None, {"x": x})[0]
    print(x.dtype, x.tolist(), "-> ONNX Runtime", runtime.tolist(), "reference", np.asarray(reference).tolist())
    return runtime, reference


x = np.array([0.7, -1.2])
runtime, reference = shrunk(x, TensorProto.DOUBLE)
assert runtime.dtype == np.float64 and (reference == x).all(), "the behaviour has changed"
assert (runtime == x.astype(np.float32)).all() and (runtime != x).all(), "the behaviour has changed"
n = np.array([2**24 + 1])
runtime, reference = shrunk(n, TensorProto.INT64)
assert (reference == n).all() and (runtime == 2**24).all(), "the behaviour has changed"
PY

#!/usr/bin/env bash
# ONNX Runtime takes a NumPy array of the other byte order for one of its own.
#
# A dtype like '>f4' is a float32 to NumPy: arithmetic, comparison and assignment swap the bytes as they go, so data read from
# formats that store big-endian numbers (FITS, IDX, netCDF) work without a thought. The Python API of ONNX Runtime looks at the kind
# of the type only and copies the bytes: on a little-endian machine the network gets other numbers, and nothing is said. The same goes
# for OrtValue.ortvalue_from_numpy. `x.astype(x.dtype.newbyteorder("="))` is what to feed; onnx's reference evaluator, which
# computes with NumPy, gives the right result for either.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6 (x86-64), an Identity of float32 fed np.array([1, 2, 3], ">f4"):
#   ONNX Runtime [4.6006e-41, 8.9683e-44, 2.3049e-41], which are the bytes of 1, 2, 3 in reverse
#   onnx's reference evaluator 1, 2, 3
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

assert sys.byteorder == "little", "this machine is big-endian: there it is '<f4' that is read wrongly"
graph = helper.make_graph(
    [helper.make_node("Identity", ["x"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
x = np.array([1, 2, 3], ">f4")
found = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
value = ort.OrtValue.ortvalue_from_numpy(x).numpy()
expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
print("fed", x.tolist(), "-> ONNX Runtime", found, "OrtValue", value, "reference", expected)
assert (np.asarray(expected) == x).all(), "the behaviour has changed"
swapped = np.frombuffer(x.tobytes(), "<f4")
assert (found == swapped).all() and (value == swapped).all(), "the behaviour has changed"
PY

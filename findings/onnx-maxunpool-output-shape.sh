#!/usr/bin/env bash
# MaxUnpool with output_shape: ONNX Runtime and onnx's reference count the indices in different tensors, and each fails one use.
#
# MaxPool 2x2 of a 5x5 image gives 2x2 maxima and their flat indices in the 5x5 image. MaxUnpool's third input, output_shape, is
# "meant to disambiguate the op": 2x2 maxima may come from 4x4 or from 5x5. ONNX Runtime counts the indices in output_shape, so
# that MaxUnpool undoes MaxPool. onnx's reference counts them in the size that kernel, strides and pads give (4x4) and pads the
# result: it fails on the indices of MaxPool. But the standard's own test, test_maxunpool_export_with_output_shape, has indices
# that are counted in 4x4, and there ONNX Runtime gives another result than the test wants. Without output_shape both agree.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6 (CPU):
#   MaxPool, then MaxUnpool to 5x5:  ONNX Runtime has the four maxima in their places
#                                    reference: IndexError, index 16 is out of bounds for axis 0 with size 16
#   the test's data:                 reference has 1 2 3 4 at (1,1) (1,3) (3,1) (3,3), as the test wants
#                                    ONNX Runtime has them at (1,0) (1,2) (2,3) (3,0)
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

ATTRS = {"kernel_shape": [2, 2], "strides": [2, 2]}
SHAPE = np.array([1, 1, 5, 5])
unpool = helper.make_node("MaxUnpool", ["v", "i", "shape"], ["y"], **ATTRS)


def info(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs):
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], SHAPE)
    graph = helper.make_graph(nodes, "g", inputs, [info("y", TensorProto.FLOAT, [1, 1, 5, 5])], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)


def places(y):
    return [tuple(map(int, p)) for p in np.argwhere(y[0, 0])], y[y != 0].tolist()


there_and_back = model([helper.make_node("MaxPool", ["x"], ["v", "i"], **ATTRS), unpool], [info("x", TensorProto.FLOAT, [1, 1, 5, 5])])
x = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
runtime = places(ort.InferenceSession(there_and_back.SerializeToString()).run(None, {"x": x})[0])
try:
    reference = places(ReferenceEvaluator(there_and_back).run(None, {"x": x})[0])
except IndexError as error:
    reference = f"IndexError: {error}"
print("MaxPool, MaxUnpool: ONNX Runtime", runtime)
print("                    reference   ", reference)
assert runtime == ([(1, 1), (1, 3), (3, 1), (3, 3)], [6, 8, 16, 18]), "the behaviour has changed"
assert "IndexError" in reference, "the behaviour has changed"

test = model([unpool], [info("v", TensorProto.FLOAT, [1, 1, 2, 2]), info("i", TensorProto.INT64, [1, 1, 2, 2])])
feeds = {"v": np.array([[[[1, 2], [3, 4]]]], np.float32), "i": np.array([[[[5, 7], [13, 15]]]])}
runtime = places(ort.InferenceSession(test.SerializeToString()).run(None, feeds)[0])
reference = places(ReferenceEvaluator(test).run(None, feeds)[0])
print("the test's data:    ONNX Runtime", runtime)
print("                    reference   ", reference)
assert runtime == ([(1, 0), (1, 2), (2, 3), (3, 0)], [1, 2, 3, 4]), "the behaviour has changed"
assert reference == ([(1, 1), (1, 3), (3, 1), (3, 3)], [1, 2, 3, 4]), "the behaviour has changed"
PY

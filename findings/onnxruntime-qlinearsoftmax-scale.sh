#!/usr/bin/env bash
# ONNX Runtime's QLinearSoftmax never gives the largest byte: with the scale 1/255 that its own quantiser writes, certainty is 254.
#
# A quantised softmax of scale 1/255 and zero point 0 should give 255 for a probability of 1, and does where the same is written as
# DequantizeLinear, Softmax, QuantizeLinear. QLinearSoftmax (domain com.microsoft, which quantize_static writes in its QOperator format)
# multiplies by the whole number below 1 / y_scale instead of dividing by y_scale. float32 has no 1/255: its neighbour's reciprocal is
# just below 255, so all probabilities are scaled by 254. A scale just below 1/255 gives 255 again.
#
# Seen with onnxruntime 1.32.0 and onnx 1.23.2, for a row whose first element has all of the probability:
#   y_scale 1/255               QLinearSoftmax 254    Dequantize, Softmax, Quantize 255
#   y_scale next below 1/255    QLinearSoftmax 255    Dequantize, Softmax, Quantize 255
#   y_scale 1/256               QLinearSoftmax 255    Dequantize, Softmax, Quantize 255
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

X = np.array([[255, 0, 0, 0]], np.uint8)


def first(nodes: list, scale: np.float32) -> int:
    """What the model gives for the element that has all of the probability."""
    constants = {
        "xs": np.float32(0.5),
        "zero": np.uint8(0),
        "ys": scale,
    }
    graph = helper.make_graph(
        nodes,
        "softmax",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, X.shape)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    made = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    return int(session.run(None, {"x": X})[0][0, 0])


fused = [
    helper.make_node(
        "QLinearSoftmax", ["x", "xs", "zero", "ys", "zero"], ["y"], domain="com.microsoft", axis=-1, opset=13
    )
]
apart = [
    helper.make_node("DequantizeLinear", ["x", "xs", "zero"], ["real"]),
    helper.make_node("Softmax", ["real"], ["share"], axis=-1),
    helper.make_node("QuantizeLinear", ["share", "ys", "zero"], ["y"]),
]
step = np.float32(1 / 255)
CASES = {
    "1/255": (step, 254, 255),
    "next below 1/255": (np.nextafter(step, np.float32(0)), 255, 255),
    "1/256": (np.float32(1 / 256), 255, 255),
}
wrong = []
for name, (scale, *expected) in CASES.items():
    seen = [first(fused, scale), first(apart, scale)]
    print(f"y_scale {name:18}  QLinearSoftmax {seen[0]}    Dequantize, Softmax, Quantize {seen[1]}")
    wrong += [name] if seen != expected else []
assert not wrong, f"the behaviour has changed: {wrong}"
PY

#!/usr/bin/env bash
# SplitToSequence: ONNX Runtime applies keepdims=0 where split is one number, though the standard says to ignore it.
#
# "keepdims: ... If input 'split' is specified, this attribute is ignored." ONNX Runtime ignores it for a list of sizes only:
# split as a scalar 1 with keepdims=0 gives elements of a lower rank, as without split; a list of ones keeps the dim. onnx's
# reference keeps it in both. What follows fails or broadcasts differently. With a scalar of 2 it fails at run time.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6 (CPU), x of [3, 2] split along axis 0, shape of the first element:
#   keepdims=0, split=1:          ONNX Runtime (2,), reference (1, 2)
#   keepdims=0, split=[1, 1, 1]:  ONNX Runtime (1, 2), reference (1, 2)
#   keepdims=0, split=2:          ONNX Runtime fails, reference (2, 2)
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

ort.set_default_logger_severity(4)


def shapes(split):
    graph = helper.make_graph(
        [
            helper.make_node("SplitToSequence", ["x", "split"], ["parts"], axis=0, keepdims=0),
            helper.make_node("SequenceAt", ["parts", "first"], ["y"]),
        ],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("split", TensorProto.INT64, split.shape, split.ravel()),
            helper.make_tensor("first", TensorProto.INT64, [], [0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"x": np.zeros((3, 2), np.float32)}
    try:
        runtime = ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0].shape
    except Exception as error:
        runtime = type(error).__name__
    return runtime, ReferenceEvaluator(model).run(None, feeds)[0].shape


for split, want in (
    (np.array(1), ((2,), (1, 2))),
    (np.array([1, 1, 1]), ((1, 2), (1, 2))),
    (np.array(2), ("Fail", (2, 2))),
):
    seen = shapes(split)
    print(f"split {split.tolist()}: ONNX Runtime {seen[0]}, reference {seen[1]}")
    assert seen == want, "the behaviour has changed"
PY

#!/usr/bin/env bash
# ONNX Runtime's TreeEnsemble (ai.onnx.ml 5) numbers post_transform in another order than the standard.
#
# The standard: NONE 0, SOFTMAX 1, LOGISTIC 2, SOFTMAX_ZERO 3, PROBIT 4. ONNX Runtime's kernel takes 1 for LOGISTIC and 2 for
# SOFTMAX, and onnx's reference evaluator applies neither. An exporter that writes the number of the standard gets other
# scores, in silence, and the two engines that one would compare agree with neither the text nor each other.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6 (CPU):
#   post_transform=1: reference [1. 0.], ONNX Runtime [0.7311 0.5   ]   (SOFTMAX of these sums is [0.7311 0.2689])
#   post_transform=2: reference [1. 0.], ONNX Runtime [0.7311 0.2689]   (LOGISTIC is [0.7311 0.5])
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

seen = {}
for code in (1, 2):
    node = helper.make_node(
        "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", n_targets=2, aggregate_function=1, post_transform=code,
        tree_roots=[0], nodes_modes=helper.make_tensor("m", TensorProto.UINT8, [1], [0]), nodes_featureids=[0],
        nodes_splits=helper.make_tensor("s", TensorProto.FLOAT, [1], [0.0]), nodes_truenodeids=[0], nodes_trueleafs=[1],
        nodes_falsenodeids=[1], nodes_falseleafs=[1], leaf_targetids=[0, 1],
        leaf_weights=helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0]),
    )
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 5)], ir_version=9)
    x = {"x": np.float32([[-1]])}
    reference = ReferenceEvaluator(model).run(None, x)[0].round(4)[0]
    runtime = ort.InferenceSession(model.SerializeToString()).run(None, x)[0].round(4)[0]
    print(f"post_transform={code}: reference {reference}, ONNX Runtime {runtime}")
    seen[code] = reference.tolist(), runtime.tolist()
none, softmax, logistic = [1, 0], [0.7311, 0.2689], [0.7311, 0.5]
for got, want in zip(seen[1] + seen[2], (none, logistic, none, softmax)):
    assert np.allclose(got, want, atol=2e-4), "the behaviour has changed"
PY

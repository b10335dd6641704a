#!/usr/bin/env bash
# ONNX Runtime's If gives zeros where a branch lists one value as two of its outputs.
#
# A branch's outputs are values by name, and nothing in the standard forbids one name twice; onnx.checker accepts the file. The
# CPU provider writes one of the two results and leaves the other as it was allocated, without a word. With an Identity between
# them both are right. Whoever merges equal values inside branches (common subexpressions) writes such files.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6 (CPU), for -x of [1 2 3]:
#   one name twice: reference [-1. -2. -3.] [-1. -2. -3.], ONNX Runtime [0. 0. 0.] [-1. -2. -3.]
#   with Identity:  reference [-1. -2. -3.] [-1. -2. -3.], ONNX Runtime [-1. -2. -3.] [-1. -2. -3.]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def value(name, shape=(3,), kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def results(second):
    nodes = [helper.make_node("Neg", ["x"], ["a"])]
    if second != "a":
        nodes.append(helper.make_node("Identity", ["a"], [second]))
    then = helper.make_graph(nodes, "then", [], [value("a"), value(second)])
    nodes = [helper.make_node("Abs", ["x"], ["c"]), helper.make_node("Exp", ["x"], ["d"])]
    other = helper.make_graph(nodes, "else", [], [value("c"), value("d")])
    node = helper.make_node("If", ["cond"], ["y", "z"], then_branch=then, else_branch=other)
    inputs = [value("cond", (), TensorProto.BOOL), value("x")]
    graph = helper.make_graph([node], "g", inputs, [value("y"), value("z")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    feeds = {"cond": np.array(True), "x": np.float32([1, 2, 3])}
    runtime = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, feeds), runtime.run(None, feeds)


want = np.float32([-1, -2, -3])
for second in ("a", "b"):
    reference, runtime = results(second)
    print("one name twice:" if second == "a" else "with Identity: ", "reference", *reference, "ONNX Runtime", *runtime)
    assert all((r == want).all() for r in reference), "the behaviour has changed"
    wrong = [i for i, r in enumerate(runtime) if not (r == want).all()]
    assert wrong == ([0] if second == "a" else []), "the behaviour has changed"
PY

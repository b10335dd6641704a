#!/usr/bin/env bash
# ONNX Runtime refuses a valid model that makes NCHW of a uint8 picture and resizes it along two axes, unless it optimises less.
#
# The usual beginning of a network that reads pictures, Transpose and then Resize with `axes` [2, 3] and two sizes, passes ONNX's
# checker and strict shape inference. With its default optimisations ONNX Runtime moves the Transpose behind the Resize and loses the
# sizes on the way: no session is made, "Number of elements of input 'sizes' (0) does not match the number of axes (2)". Of float32 it
# opens; of uint8 it opens with basic optimisations only, with a Cast to float32 before the Resize, or with four sizes and no `axes`.
#
# Seen with onnxruntime 1.32.0 and onnx 1.23.2:
#                         basic   extended  all (the default)
#   uint8, axes           opens   refused   refused
#   uint8, four sizes     opens   opens     opens
#   uint8, cast before    opens   opens     opens
#   float32, axes         opens   opens     opens
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, shape_inference

LEVELS = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def model(dtype: int, axes: bool, cast: bool) -> bytes:
    """A picture [1, 16, 16, 3] to its mean as [1, 3, 8, 8]."""
    sizes = [8, 8] if axes else [1, 3, 8, 8]
    nodes = [helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2])]
    if cast:
        nodes.append(helper.make_node("Cast", ["planes"], ["read"], to=TensorProto.FLOAT))
    which = {"axes": [2, 3]} if axes else {}
    nodes += [
        helper.make_node("Resize", ["read" if cast else "planes", "", "", "sizes"], ["small"], mode="linear", **which),
        helper.make_node("Cast", ["small"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "picture",
        [helper.make_tensor_value_info("x", dtype, [1, 16, 16, 3])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [])],
        [helper.make_tensor("sizes", TensorProto.INT64, [len(sizes)], sizes)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
    return made.SerializeToString()


def opens(data: bytes, dtype: type, level: str) -> bool:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        assert "'sizes' (0)" in str(error), error
        return False
    session.run(None, {"x": np.zeros((1, 16, 16, 3), dtype)})
    return True


CASES = {
    "uint8, axes": (TensorProto.UINT8, np.uint8, True, False, "ynn"),
    "uint8, four sizes": (TensorProto.UINT8, np.uint8, False, False, "yyy"),
    "uint8, cast before": (TensorProto.UINT8, np.uint8, True, True, "yyy"),
    "float32, axes": (TensorProto.FLOAT, np.float32, True, False, "yyy"),
}
print(" " * 20, "basic   extended  all")
wrong = []
for name, (kind, dtype, axes, cast, expected) in CASES.items():
    seen = "".join("y" if opens(model(kind, axes, cast), dtype, level) else "n" for level in LEVELS)
    words = ["opens" if s == "y" else "refused" for s in seen]
    print(f"{name:20} {words[0]:7} {words[1]:9} {words[2]}")
    wrong += [name] if seen != expected else []
assert not wrong, f"the behaviour has changed: {wrong}"
PY

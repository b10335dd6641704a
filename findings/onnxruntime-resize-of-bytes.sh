#!/usr/bin/env bash
# ONNX Runtime's linear Resize of bytes: a constant image gets spots, and negative int8 become 0 with antialias.
#
# A linear Resize of a constant image is that image, whatever the sizes. The CPU kernel's weights in float32 sum to a little less
# than 1 at some pixels and the result is cut off, not rounded, so uint8 and int8 lose 1 there. With antialias the int8 kernel
# goes through the filter for unsigned pixels, which clips at 0: every negative value becomes 0.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6 (CPU), 5x7 to 3x4:
#   uint8, all 251:                {250, 251}
#   int8, all 127:                 {126, 127}
#   int8, all -100, antialias:     {0}
#   uint8, all 251, antialias:     {251}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper


def values(kind, fill, antialias):
    size = helper.make_tensor("size", TensorProto.INT64, [4], [1, 1, 3, 4])
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "size"], ["y"], mode="linear", antialias=antialias)], "g",
        [helper.make_tensor_value_info("x", kind, [1, 1, 5, 7])], [helper.make_tensor_value_info("y", kind, [1, 1, 3, 4])],
        [size],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    x = np.full((1, 1, 5, 7), fill, np.uint8 if kind == TensorProto.UINT8 else np.int8)
    return set(ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0].ravel().tolist())


for kind, fill, antialias, want in (
    (TensorProto.UINT8, 251, 0, {250, 251}),
    (TensorProto.INT8, 127, 0, {126, 127}),
    (TensorProto.INT8, -100, 1, {0}),
    (TensorProto.UINT8, 251, 1, {251}),
):
    seen = values(kind, fill, antialias)
    print(f"{TensorProto.DataType.Name(kind)}, all {fill}, antialias {antialias}: {seen}")
    assert seen == want, "the behaviour has changed"
PY

#!/usr/bin/env bash
# LRN: ONNX Runtime's sum over channels remembers channels that have left the window; onnx's reference does not see most of them.
#
# The standard sums the squares of the channels within `size` around each. ONNX Runtime's CPU kernel adds the square that enters
# the window and subtracts the one that leaves it, in float32: after one large channel the following ones have lost their own
# squares, however far away they are, and after a NaN all are NaN. onnx's reference evaluator takes the number of channels from
# the first dim, which is the batch: with one image the sums of all channels but the first stay 0. So of the two engines that one
# would compare neither is right, and they disagree in different channels.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6 (CPU), size 3, nine channels of 1 but the third, which is 1e6:
#   formula      channels 5, 6, 7: 1.0 1.0 1.0 (0.99993 with more digits)
#   ONNX Runtime channels 5, 6, 7: 0.5946 0.5946 0.5946
#   reference    channels 2, 4: 1.0 1.0 where the formula has 2.28e-06
#   one channel NaN: ONNX Runtime has NaN in 8 of 9 channels, the formula in 3
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

SIZE, ALPHA, BETA = 3, 1e-4, 0.75
shape = [1, 9, 1, 1]
graph = helper.make_graph(
    [helper.make_node("LRN", ["x"], ["y"], size=SIZE, alpha=ALPHA, beta=BETA, bias=1.0)], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
session, evaluator = ort.InferenceSession(model.SerializeToString()), ReferenceEvaluator(model)


def formula(x):
    x = x.astype(np.float64).ravel()
    sums = np.array([(x[max(0, c - SIZE // 2) : c + SIZE // 2 + 1] ** 2).sum() for c in range(len(x))])
    return x / (1 + ALPHA / SIZE * sums) ** BETA


def three(third):
    x = np.ones(shape, np.float32)
    x[0, 2] = third
    return formula(x), session.run(None, {"x": x})[0].ravel(), evaluator.run(None, {"x": x})[0].ravel()


exact, runtime, reference = three(1e6)
print("formula     ", exact.round(7))
print("ONNX Runtime", runtime)
print("reference   ", reference)
assert np.allclose(exact[4:7], 1, atol=1e-3) and np.allclose(runtime[4:7], 0.5946, atol=1e-3), "the behaviour has changed"
assert exact[1] < 1e-5 and exact[3] < 1e-5 and (reference[[1, 3]] == 1).all(), "the behaviour has changed"
exact, runtime, _ = three(np.nan)
print("NaN: formula in", np.isnan(exact).sum(), "channels, ONNX Runtime in", np.isnan(runtime).sum())
assert np.isnan(exact).sum() == 3 and np.isnan(runtime).sum() == 8, "the behaviour has changed"
PY

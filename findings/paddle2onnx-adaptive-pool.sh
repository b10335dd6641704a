#!/usr/bin/env bash
# PaddlePaddle's ONNX exporter writes an adaptive pool whose windows differ in size as an ordinary pool: other numbers, no word of it.
#
# Adaptive average pooling of 12 columns to 5 takes windows of 3 or 4 columns that begin at floor(i * 12 / 5). ONNX has no operator for
# that, so PyTorch's exporter by TorchScript refuses such sizes. paddle2onnx writes an AveragePool of one kernel and one stride, which has a result of the
# right shape and of other windows. Where the sizes divide, the file is right. The same holds of adaptive max pooling.
#
# Seen with paddle2onnx 2.1.0, paddlepaddle 3.3.1 and onnxruntime 1.32.0, for the columns 0 to 11:
#   12 -> 4   Paddle 1.0 4.0 7.0 10.0        the file 1.0 4.0 7.0 10.0
#   12 -> 5   Paddle 1.0 3.0 5.5 8.0 10.0    the file 1.5 3.5 5.5 7.5 9.5
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    paddlepaddle==3.3.1 paddle2onnx==2.1.0 onnxruntime==1.32.0 onnx==1.17.0 numpy==2.4.6
cd "$work"
cat >layer.py <<'PY'
import numpy as np
import onnxruntime
import paddle
import paddle2onnx

X = np.arange(12, dtype=np.float32).reshape(1, 1, 12)


class Pool(paddle.nn.Layer):
    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, x):
        return paddle.nn.functional.adaptive_avg_pool1d(x, self.columns)


EXPECTED = {4: [1, 4, 7, 10], 5: [1.5, 3.5, 5.5, 7.5, 9.5]}
wrong = []
for columns, expected in EXPECTED.items():
    layer = Pool(columns)
    layer.eval()
    saved, file = f"pool{columns}", f"pool{columns}.onnx"
    paddle.jit.save(layer, saved, input_spec=[paddle.static.InputSpec(X.shape, "float32", "x")])
    paddle2onnx.export(f"{saved}.json", f"{saved}.pdiparams", file, opset_version=17, optimize_tool="none")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = layer(paddle.to_tensor(X)).numpy().ravel()
    seen = session.run(None, {session.get_inputs()[0].name: X})[0].ravel()
    print(f"12 -> {columns}   Paddle {' '.join(map(str, given))}   the file {' '.join(map(str, seen))}")
    truth = [X[0, 0, i * 12 // columns : -(-(i + 1) * 12 // columns)].mean() for i in range(columns)]
    wrong += [columns] if not (np.allclose(given, truth) and np.allclose(seen, expected)) else []
assert not wrong, f"the behaviour has changed: {wrong}"
PY
"$work/venv/bin/python" layer.py 2>log | grep -v 'Paddle2ONNX\|INFO' || { cat log; exit 1; }  # from a file: Paddle reads the layer's source

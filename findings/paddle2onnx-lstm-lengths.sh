#!/usr/bin/env bash
# PaddlePaddle's ONNX exporter leaves out the lengths of an LSTM's sequences: the file goes on behind their ends, no word of it.
#
# paddle.nn.LSTM(x, sequence_length=n) gives zeros behind each sequence's end, and its last state is that at the end. ONNX's LSTM has an
# operand for just that, sequence_lens. paddle2onnx leaves it away; the input n is still there, and nothing reads it.
#
# Seen with paddle2onnx 2.1.0, paddlepaddle 3.3.1 and onnxruntime 1.32.0, for a sequence of 3 of 7 steps:
#   inputs of the file: x, n; sequence_lens of its LSTM: absent
#   steps 1 to 3: differ by less than 1e-5: True
#   steps 4 to 7: Paddle all 0: True; the file all 0: False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    paddlepaddle==3.3.1 paddle2onnx==2.1.0 onnxruntime==1.32.0 onnx==1.17.0 numpy==2.4.6
cd "$work"
cat >layer.py <<'PY'
import numpy as np
import onnx
import onnxruntime
import paddle
import paddle2onnx

rng = np.random.default_rng(0)
X = rng.normal(size=(1, 7, 5)).astype(np.float32)
LENGTH = 3


class Layer(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = paddle.nn.LSTM(5, 4)

    def forward(self, x, n):
        return self.lstm(x, sequence_length=n)[0]


paddle.seed(0)
layer = Layer()
layer.eval()
specs = [paddle.static.InputSpec(X.shape, "float32", "x"), paddle.static.InputSpec([1], "int64", "n")]
paddle.jit.save(layer, "lstm", input_spec=specs)
paddle2onnx.export("lstm.json", "lstm.pdiparams", "lstm.onnx", opset_version=17, optimize_tool="none")
session = onnxruntime.InferenceSession("lstm.onnx", providers=["CPUExecutionProvider"])
(node,) = (n for n in onnx.load("lstm.onnx").graph.node if n.op_type == "LSTM")
lengths = node.input[4] if len(node.input) > 4 else ""
inputs = [i.name for i in session.get_inputs()]
given = layer(paddle.to_tensor(X), paddle.to_tensor(np.array([LENGTH]))).numpy()
feeds = {"x": X, "n": np.array([LENGTH])}
seen = session.run(None, {n: feeds[n] for n in inputs})[0].reshape(given.shape)
inside, behind = slice(0, LENGTH), slice(LENGTH, None)
print(f"inputs of the file: {', '.join(inputs)}; sequence_lens of its LSTM: {lengths or 'absent'}")
print(f"steps 1 to 3: differ by less than 1e-5: {np.allclose(given[:, inside], seen[:, inside], atol=1e-5)}")
print(f"steps 4 to 7: Paddle all 0: {not given[:, behind].any()}; the file all 0: {not seen[:, behind].any()}")
assert not lengths and "n" in inputs, "the behaviour has changed: lengths are exported"
assert np.allclose(given[:, inside], seen[:, inside], atol=1e-5), "the behaviour has changed"
assert not given[:, behind].any() and seen[:, behind].all(), "the behaviour has changed"
PY
"$work/venv/bin/python" layer.py 2>log | grep -v 'Paddle2ONNX\|INFO' || { cat log; exit 1; }  # from a file: Paddle reads the layer's source

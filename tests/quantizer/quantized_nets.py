"""Small float networks whose layers the quantiser knows, and what runs them in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort

from graphc.graph import Builder, Graph, Value


class Net(Builder):
    """A builder with layers whose weights are drawn."""

    def __init__(self) -> None:
        super().__init__("net")
        self.rng = np.random.default_rng(0)

    def weights(self, *shape: int, by: float = 1.0) -> Value:
        fan = max(int(np.prod(shape[1:])), 1)
        return self.constant(self.rng.standard_normal(shape) * by / np.sqrt(fan), np.float32)

    def conv(self, x: Value, channels: int, k: int = 3, **attrs) -> Value:
        group = attrs.get("group", 1)
        w = self.weights(channels, x.shape[1] // group, k, k)
        return self.add("Conv", x, w, self.weights(channels), pads=(k // 2,) * 4, **attrs)

    def relu(self, x: Value) -> Value:
        return self.add("Relu", x)

    def image(self, channels: int = 3, size: int = 8) -> Value:
        return self.input("x", np.float32, ("batch", channels, size, size))


def residual(b: Net) -> Value:
    x = b.relu(b.conv(b.image(), 8))
    y = b.conv(b.relu(b.conv(x, 8)), 8)
    return b.conv(b.relu(b.add("Add", x, y)), 4, 1)


def inception(b: Net) -> Value:
    x = b.relu(b.conv(b.image(), 8))
    parts = b.relu(b.conv(x, 4, 1)), b.conv(x, 5), b.add("MaxPool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    return b.conv(b.add("Concat", *parts, axis=1), 4)


def squeezed(b: Net) -> Value:
    """Depthwise, SiLU, a gate for each channel."""
    x = b.conv(b.conv(b.image(), 8), 8, group=8)
    x = b.add("Mul", x, b.add("Sigmoid", x))
    gate = b.add("Sigmoid", b.conv(b.relu(b.conv(b.add("GlobalAveragePool", x), 4, 1)), 8, 1))
    return b.conv(b.add("Mul", x, gate), 4, 1)


def classifier(b: Net) -> Value:
    x = b.add("MaxPool", b.relu(b.conv(b.image(), 8)), kernel_shape=(2, 2), strides=(2, 2))
    x = b.add("AveragePool", b.conv(x, 8), kernel_shape=(2, 2), strides=(2, 2))
    x = b.add("Flatten", x, axis=1)
    x = b.relu(b.add("Gemm", x, b.weights(16, 32), b.weights(16), transB=True))
    return b.add("Softmax", b.add("Gemm", x, b.weights(16, 10), b.weights(10)), axis=-1)


def decoder(b: Net) -> Value:
    x = b.relu(b.conv(b.image(), 8))
    scales = b.constant([1, 1, 2, 2], np.float32)
    up = b.add("Resize", x, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric")
    other = b.add("ConvTranspose", x, b.weights(8, 4, 2, 2), b.weights(8), strides=(2, 2), group=2)
    return b.conv(b.relu(b.add("Add", up, other)), 3)


def transformer(b: Net) -> Value:
    """A block of attention and two layers, normed before."""
    x = b.input("x", np.float32, ("batch", 6, 16))

    def dense(x: Value, n: int) -> Value:
        return b.add("Add", b.add("MatMul", x, b.weights(x.shape[-1], n)), b.weights(n))

    def normed(x: Value) -> Value:
        return b.add("LayerNormalization", x, b.constant(np.ones(16), np.float32), b.constant(np.zeros(16), np.float32))

    h = normed(x)
    q, k, v = (dense(h, 16) for _ in range(3))
    scores = b.add("MatMul", q, b.add("Transpose", k, perm=(0, 2, 1)))
    x = b.add("Add", x, dense(b.add("MatMul", b.add("Softmax", scores, axis=-1), v), 16))
    return b.add("Add", x, dense(b.add("Gelu", dense(normed(x), 32)), 16))


def dense(b: Net) -> Value:
    """Each layer reads all before it, normed: a factor and a shift for each channel, which no layer before them takes."""
    x = b.conv(b.image(), 4)
    for _ in range(2):
        n = x.shape[1]
        statistics = (b.constant(b.rng.uniform(0.5, 1.5, n), np.float32) for _ in range(4))
        normed = b.relu(b.add("BatchNormalization", x, *statistics))
        x = b.add("Concat", x, b.conv(normed, 4), axis=1)
    return b.conv(x, 3)


def clipped(b: Net) -> Value:
    """ReLU6, a bias for all channels, an input that another reads, too."""
    image = b.image()
    limits = b.constant(0, np.float32), b.constant(6, np.float32)
    x = b.add("Clip", b.conv(image, 8, strides=(2, 2)), *limits)
    x = b.add("Mul", b.add("LeakyRelu", b.conv(x, 8), alpha=0.1), b.constant(0.5, np.float32))
    y = b.add(
        "Add", b.conv(b.add("Pad", x, b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)), 4), b.constant(1, np.float32)
    )
    return b.add("Add", b.add("ReduceMean", y, b.constant([2, 3], np.int64)), b.add("ReduceMax", image))


NETS: dict[str, Callable[[Net], Value]] = {
    f.__name__: f for f in (residual, inception, squeezed, classifier, decoder, transformer, dense, clipped)
}


def net(name: str) -> Graph:
    b = Net()
    return b.build({"y": NETS[name](b)})


def data(graph: Graph, count: int = 24, seed: int = 1) -> np.ndarray:
    shape = graph.inputs[0].shape
    return np.random.default_rng(seed).standard_normal((count, *shape[1:])).astype(np.float32)


def in_onnxruntime(model: onnx.ModelProto, feeds: dict[str, np.ndarray], optimized: bool = False) -> list[np.ndarray]:
    """As the file stands, or with all that ONNX Runtime makes of it."""
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")  # else sums saturate on a CPU without VNNI
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)

"""Small graphs that the tests of the runtime share."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Graph, Value

F32 = np.float32


def weights(b: Builder, *shape: int) -> Value:
    """Uniform weights whose layer keeps the size of its input's elements."""
    scale = (3 / np.prod(shape[1:])) ** 0.5
    return b.constant(np.random.default_rng([len(b.nodes), *shape]).uniform(-scale, scale, shape), F32)


def convnet(size: int = 28, classes: int = 10) -> Graph:
    """x [n, 3, size, size] -> y [n, classes]: direct, Winograd, grouped and depthwise convolutions, pools, a branch."""
    b = Builder("convnet")
    x = b.input("x", F32, ("n", 3, size, size))
    stem = b.add("Relu", b.add("Conv", x, weights(b, 32, 3, 3, 3), pads=[1] * 4))
    left = b.add("Conv", stem, weights(b, 32, 32, 3, 3), pads=[1] * 4)
    right = b.add("Conv", stem, weights(b, 32, 1, 3, 3), pads=[1] * 4, group=32)
    x = b.add("Relu", b.add("Add", left, right))
    x = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Conv", x, weights(b, 48, 16, 3, 3), group=2, strides=[2, 2])
    x = b.add("Concat", x, b.add("Sigmoid", x), axis=1)
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    return b.build({"y": b.add("Softmax", b.add("Gemm", x, weights(b, 96, classes)))})


def transformer(width: int = 32, heads: int = 4) -> Graph:
    """x [n, length, width] -> y alike: a layer of self-attention, and the mean and the largest of its elements."""
    b = Builder("transformer")
    x = b.input("x", F32, ("n", "length", width))

    def split(v: Value, perm: list[int]) -> Value:
        v = b.add("MatMul", v, weights(b, width, width))
        v = b.add("Reshape", v, b.constant([0, 0, heads, width // heads], np.int64))
        return b.add("Transpose", v, perm=perm)

    scores = b.add("MatMul", split(x, [0, 2, 1, 3]), split(x, [0, 2, 3, 1]))
    mixed = b.add("MatMul", b.add("Softmax", scores), split(x, [0, 2, 1, 3]))
    mixed = b.add("Reshape", b.add("Transpose", mixed, perm=[0, 2, 1, 3]), b.constant([0, 0, width], np.int64))
    y = b.add("LayerNormalization", b.add("Add", x, mixed), b.constant(np.ones(width), F32), axis=-1)
    y = b.add(
        "Add", y, b.add("MatMul", b.add("Gelu", b.add("MatMul", y, weights(b, width, 64))), weights(b, 64, width))
    )
    axes = b.constant([1, 2], np.int64)
    return b.build({"y": y, "mean": b.add("ReduceMean", y, axes), "max": b.add("ReduceMax", y, axes)})


def recurrent(width: int = 24, hidden: int = 40) -> Graph:
    """x [length, n, width] -> y [length, n, hidden], last [1, n, hidden]: both ways through an LSTM, then a GRU."""
    b = Builder("recurrent")
    x = b.input("x", F32, ("length", "n", width))
    w, r = weights(b, 2, 4 * hidden, width), weights(b, 2, 4 * hidden, hidden)
    h = b.add("LSTM", x, w, r, hidden_size=hidden, direction="bidirectional", outputs=["h", "h_last", "c_last"])[0]
    h = b.add("Reshape", b.add("Transpose", h, perm=[0, 2, 1, 3]), b.constant([0, 0, 2 * hidden], np.int64))
    w, r = weights(b, 1, 3 * hidden, 2 * hidden), weights(b, 1, 3 * hidden, hidden)
    y, last = b.add("GRU", h, w, r, hidden_size=hidden, outputs=["gru", "last"])
    return b.build({"y": b.add("Squeeze", y, b.constant([1], np.int64)), "last": last})


def agree(results: dict[str, np.ndarray], want: dict[str, np.ndarray], tolerance: float = 1e-4) -> None:
    """Equal names, dtypes and shapes; floats within `tolerance` of the largest element, anything else exact."""
    assert results.keys() == want.keys()
    for name, w in want.items():
        got = results[name]
        assert got.dtype == w.dtype and got.shape == w.shape, f"{name}: {got.dtype}{got.shape}, not {w.dtype}{w.shape}"
        if w.dtype.kind == "f":
            scale = max(1e-3, np.abs(w[np.isfinite(w)]).max(initial=0))
            np.testing.assert_allclose(got, w, rtol=tolerance, atol=tolerance * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(got, w, err_msg=name)

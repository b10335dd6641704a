"""Operands of fused elementwise nodes against results with dims of 1: every pattern of dims, wherever the operand comes from.

Each graph has an output per pattern, so that one compilation covers all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
from targets import require

import graphc
from graphc.graph import Builder, Graph, Value

TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]
F32 = np.float32
Shape = tuple[int, ...]


def broadcastable(shape: Shape) -> list[Shape]:
    """Every shape that broadcasts to `shape`: each dim or 1, and without leading ones."""
    full = [tuple(dims) for dims in product(*[dict.fromkeys((d, 1)) for d in shape])]
    stripped = [s[k:] for s in full for k in range(1, len(s)) if s[:k] == (1,) * k]
    return list(dict.fromkeys(full + stripped))


class Net:
    """A graph whose operands come from inputs, constants and views in turn."""

    def __init__(self, seed: int) -> None:
        self.b, self.rng, self.feeds, self.outputs = Builder("net"), np.random.default_rng(seed), {}, {}
        self.sources: Iterator[Callable[[Shape], Value]] = iter(())

    def array(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(-1, 1, shape).astype(F32)

    def input(self, shape: Shape) -> Value:
        name = f"x{len(self.feeds)}"
        self.feeds[name] = self.array(*shape)
        return self.b.input(name, F32, shape)

    def weights(self, *shape: int) -> Value:
        return self.b.constant(self.array(*shape))

    def operand(self, shape: Shape) -> Value:
        source = next(self.sources, None)
        if source is None:
            self.sources = iter((self.input, lambda s: self.weights(*s), self.transposed, self.part, self.reshaped))
            source = next(self.sources)
        return source(shape)

    def transposed(self, shape: Shape) -> Value:
        return self.b.add("Transpose", self.input(shape[::-1]), perm=tuple(range(len(shape)))[::-1])

    def part(self, shape: Shape) -> Value:
        whole = self.input((shape[0] + 2, *shape[1:]))
        bounds = [self.b.constant([n], np.int64) for n in (1, shape[0] + 1, 0)]
        return self.b.add("Slice", whole, *bounds)

    def reshaped(self, shape: Shape) -> Value:
        flat = self.input((int(np.prod(shape)),))
        return self.b.add("Reshape", flat, self.b.constant(shape, np.int64))

    def output(self, v: Value) -> None:
        self.outputs[f"y{len(self.outputs)}"] = v

    def graph(self) -> Graph:
        return self.b.build(self.outputs)


def joined(net: Net, y: Value, operand: Value, number: int) -> Value:
    """An epilogue of the standard form (a residual), or an expression that reads the operand twice."""
    if number % 3:
        return net.b.add("Add", *((y, operand) if number % 2 else (operand, y)))
    return net.b.add("Sub", net.b.add("Mul", y, operand), operand)


def check(net: Net, target: str) -> None:
    require(target)
    graph = net.graph()
    want = graphc.compile(graph, target="reference").run(net.feeds)
    for n in (1, 2) if target == "cpu" else (2,):
        got = graphc.compile(graph, target=target, threads=n).run(net.feeds)
        for name, exact in want.items():  # sums of at most 540 products, some of them of such sums
            scale = max(1.0, np.abs(exact).max())
            np.testing.assert_allclose(got[name], exact, rtol=0, atol=1e-5 * scale, err_msg=f"{net.outputs[name]}")


# --- products ---------------------------------------------------------------------------------------------------------
BATCHES = [(), (1,), (3,), (3, 1), (1, 3), (2, 1, 3)]
RIGHT = ["constant", "computed", "batch of constants", "batch of computed", "computed per image"]


@pytest.mark.parametrize(
    ("right", "target"), [*product(RIGHT, ["cpu"]), ("constant", "cpu:avx2"), ("constant", "cpu:portable")]
)
@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_products(batch: Shape, right: str, target: str):
    net = Net(len(batch))
    for rows, columns in product((1, 4), (1, 9)):
        x = net.input((*batch, rows, 5))
        for number, shape in enumerate(broadcastable((*batch, rows, columns))):
            dims = {"constant": (), "computed": (), "computed per image": batch[:1]}.get(right, batch)
            dims = (*dims, *(1,) * (len(batch) - len(dims))) if dims else ()
            w = net.weights(*dims, 5, columns) if "constant" in right else net.input((*dims, 5, columns))
            net.output(joined(net, net.b.add("MatMul", x, w), net.operand(shape), number))
    check(net, target)


@pytest.mark.parametrize(("left", "right"), list(product((0, 1), (0, 1))))
def test_gemm(left: int, right: int):
    net = Net(2 * left + right)
    for rows, columns in product((1, 4), (1, 9)):
        for number, shape in enumerate(broadcastable((rows, columns))):
            x = net.input((5, rows) if left else (rows, 5))
            w = net.weights(*((columns, 5) if right else (5, columns)))
            y = net.b.add("Gemm", x, w, net.operand(shape), transA=left, transB=right, alpha=0.5)
            net.output(joined(net, y, net.operand(shape), number))
    check(net, "cpu")


def test_a_product_by_strassens_algorithm():
    net = Net(0)
    x = net.input((1, 128, 1, 256))
    for number, shape in enumerate([(1, 128, 1, 256), (1, 256), (256,), (128, 1, 256)]):
        y = net.b.add("Mul", net.b.add("MatMul", x, net.weights(256, 256)), net.b.constant(F32(1 / 256)))
        net.output(joined(net, y, net.operand(shape), number))
    model = graphc.compile(net.graph(), threads=1)
    assert any(s.algorithm == "strassen" for s in model.plan().steps)
    check(net, "cpu")


# --- windows ----------------------------------------------------------------------------------------------------------
SIZES = [(1,), (5,), (1, 1), (5, 1), (1, 5), (4, 5), (1, 1, 1), (3, 1, 1), (1, 3, 1), (1, 1, 3), (3, 1, 4), (3, 4, 1)]
LAYERS = {
    "pointwise": {"kernel": 1},
    "3x3": {"kernel": 3},
    "depthwise": {"kernel": 3, "group": 17, "out": 17},
    "groups": {"kernel": 1, "group": 2, "channels": 16, "out": 16},
    "transposed": {"kernel": 1},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", LAYERS)
def test_convolutions(layer: str, target: str):
    """Behind every other one a window reads its result, which then has a halo."""
    net = Net(0)
    case = {"channels": 17, "out": 20, "group": 1, **LAYERS[layer]}
    for turn, (size, n) in enumerate(product(SIZES, (1, 2))):
        kernel = (case["kernel"],) * len(size)
        pads = [k // 2 for k in kernel] * 2
        whole, one = (n, case["out"], *size), (1,) * len(size)
        others = [s for s in broadcastable(whole) if len(s) > 1]
        shapes = whole, (n, case["out"], *one), (case["out"], *one), others[turn % len(others)]
        for number, shape in enumerate(shapes, turn):
            x = net.input((n, case["channels"], *size))
            if layer == "transposed":
                y = net.b.add("ConvTranspose", x, net.weights(case["channels"], case["out"], *kernel))
            else:
                w = net.weights(case["out"], case["channels"] // case["group"], *kernel)
                y = net.b.add("Conv", x, w, pads=pads, group=case["group"])
            y = joined(net, y, net.operand(shape), number)
            if number % 2:
                halo = net.weights(y.shape[1], 1, *(3,) * len(size))
                y = net.b.add("Conv", y, halo, group=y.shape[1], pads=[1] * 2 * len(size))
            net.output(y)
    check(net, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("maker", ["MaxPool", "Conv"])
def test_elementwise_kernels_between_windows(maker: str, target: str):
    """Blocked operands of a kernel of its own, each with and without a halo."""
    net = Net(1)
    c = 24
    for number, (size, n) in enumerate(product(SIZES, (1, 2))):
        one = (1,) * len(size)
        values = []
        for shape in ((n, c, *size), (n, c, *size), (n, c, *one), (1, c, *one)):
            x = net.input(shape)
            v = net.b.add("MaxPool", x, kernel_shape=one) if maker == "MaxPool" else None
            values.append(v or net.b.add("Conv", x, net.weights(c, 1, *one), group=c))
        first, second, gate, channel = values
        y = net.b.add("Sub", net.b.add("Mul", net.b.add("Sub", first, second), gate), channel)
        net.output(y)
        for v in (y, *values[number % 4 :: 2]):  # read by windows, so that it has a halo
            net.output(net.b.add("Conv", v, net.weights(c, 1, *(3,) * len(size)), group=c, pads=[1] * 2 * len(size)))
    check(net, target)

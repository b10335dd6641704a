"""Factors of weights: as near as a rank allows, and the same network."""

from __future__ import annotations

import numpy as np
import pytest
from quantizer.quantized_nets import Net

import graphc
from graphc.graph import Graph, Value
from graphc.shrinker import LowRank, shrink
from graphc.shrinker.low_rank import factors


def low(rng: np.random.Generator, rank: int, *shape: int) -> np.ndarray:
    """A matrix of a rank, and noise of a hundredth."""
    a, b = rng.standard_normal((shape[0], rank)), rng.standard_normal((rank, shape[1]))
    return (a @ b / np.sqrt(rank) + 0.01 * rng.standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (7, 7), (1, 5)])
@pytest.mark.parametrize("error", [0.0, 0.1, 0.5])
def test_no_smaller_rank_is_near_enough(shape: tuple[int, int], error: float):
    """The singular values are NumPy's."""
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    a, b = factors(w, error)
    rank = a.shape[1]
    s = np.linalg.svd(w.astype(np.float64), compute_uv=False)
    rest = [np.sqrt((s[r:] ** 2).sum() / (s**2).sum()) for r in range(len(s) + 1)]
    got = np.linalg.norm(w - a @ b) / np.linalg.norm(w)
    assert got == pytest.approx(rest[rank], abs=1e-6) and got <= error + 1e-6, "float32 rounds the factors"
    assert rank == 1 or rest[rank - 1] > error


def test_zeros():
    a, b = factors(np.zeros((4, 3), np.float32), 0.1)
    assert a.shape == (4, 1) and not (a @ b).any()


def conv_net(shape: tuple[int, ...], image: tuple[int, ...], weights: np.ndarray | None = None, **attrs) -> Graph:
    b = Net()
    x = b.input("x", np.float32, ("batch", *image))
    w = b.weights(*shape) if weights is None else b.constant(weights.reshape(shape), np.float32, "w")
    return b.build({"y": b.add("Conv", x, w, b.weights(shape[0]), name="layer", **attrs)})


def by_channels(rng: np.random.Generator) -> np.ndarray:
    return low(rng, 3, 24, 16 * 9)


def by_axes(rng: np.random.Generator) -> np.ndarray:
    m = low(rng, 3, 16 * 3, 24 * 3)
    return m.reshape(16, 3, 24, 3).transpose(2, 0, 1, 3)


SPACE = {"pads": (1, 2, 0, 1), "strides": (2, 1), "dilations": (1, 2)}
CASES: dict[str, tuple] = {
    "1x1": ((24, 16, 1, 1), (16, 7, 6), lambda rng: low(rng, 3, 24, 16), {"strides": (2, 2)}),
    "by channels": ((24, 16, 3, 3), (16, 7, 8), by_channels, SPACE),
    "by axes": ((24, 16, 3, 3), (16, 7, 8), by_axes, SPACE),
    "along one axis": ((24, 16, 3), (16, 9), lambda rng: low(rng, 3, 24, 48), {"pads": (1, 1), "strides": (2,)}),
}


@pytest.mark.parametrize("case", CASES)
def test_convolutions(case: str):
    shape, image, weights, attrs = CASES[case]
    graph = conv_net(shape, image, weights(np.random.default_rng(0)), **attrs)
    made = shrink(graph, [LowRank(0.05)])
    (row,) = made.report.steps[0].layers
    assert row.made.startswith("rank 3 of") and row.made.endswith({"by channels": case, "by axes": case}.get(case, ""))
    assert 0.005 < row.error < 0.02 and row.bytes[1] < row.bytes[0] / 3
    assert row.bytes[1] == sum(v.data.nbytes for v in made.graph.constants() if v.data.ndim > 1)
    x = np.random.default_rng(1).standard_normal((2, *image)).astype(np.float32)
    expected, found = (graphc.compile(g, threads=1)(x) for g in (graph, made.graph))
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 3 * row.error


@pytest.mark.parametrize("form", ["Gemm", "Gemm transposed", "MatMul"])
def test_products(form: str):
    b, w = Net(), low(np.random.default_rng(0), 4, 32, 48)
    x = b.input("x", np.float32, ("batch", 32) if "Gemm" in form else ("batch", 5, 32))

    def layer() -> Value:
        if form == "MatMul":
            return b.add("MatMul", x, b.constant(w, np.float32))
        turned = form != "Gemm"
        return b.add("Gemm", x, b.constant(w.T if turned else w, np.float32), b.weights(48), transB=turned)

    graph = b.build({"y": layer()})
    made = shrink(graph, [LowRank(0.05)])
    (row,) = made.report.steps[0].layers
    assert row.made == "rank 4 of 32" and row.bytes == (4 * 32 * 48, 4 * 4 * (32 + 48))
    a = np.random.default_rng(1).standard_normal((3, *x.shape[1:])).astype(np.float32)
    expected, found = (graphc.compile(g, threads=1)(a) for g in (graph, made.graph))
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.05


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (conv_net((8, 8, 3, 3), (8, 5, 5)), "would take 1."),
        (conv_net((8, 1, 3, 3), (8, 5, 5), group=8), "in groups"),
    ],
)
def test_layers_that_stay(graph: Graph, said: str):
    made = shrink(graph, [LowRank(0.01)])
    (row,) = made.report.steps[0].layers
    assert said in row.kept and row.bytes[0] == row.bytes[1] and row.error is None
    assert [n.op.name for n in made.graph.nodes] == ["Conv"]


def test_weights_of_two_layers_stay():
    """Each would have factors of its own."""
    b = Net()
    w = b.constant(low(np.random.default_rng(0), 3, 32, 32), np.float32)
    x = b.add("Tanh", b.add("MatMul", b.input("x", np.float32, ("batch", 32)), w))
    made = shrink(b.build({"y": b.add("MatMul", x, w)}), [LowRank(0.1)])
    assert [row.kept for row in made.report.steps[0].layers] == ["other nodes read its weights, too"] * 2

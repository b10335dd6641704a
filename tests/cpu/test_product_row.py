"""Products of one row whose weights are read from a cache, in a loop of their own, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.backends.cpu.product import gemm
from graphc.backends.cpu.product.product_micro import NEAR
from graphc.backends.cpu.runtime import run
from graphc.graph import Builder, Graph

NEAR_BYTES = range(1 << 18, (1 << 20) + 1)  # as with a second level of 1 MB and a third of 32
EPILOGUES = {"none": lambda y: y, "Relu": lambda y: np.maximum(y, 0), "Tanh": np.tanh, "Add": lambda y: y + 0.25}


@pytest.fixture(autouse=True)
def caches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gemm, "near_bytes", lambda target: NEAR_BYTES)


def product(k: int, n: int, epilogue: str, rows: int = 1, bias: bool = True) -> tuple[Graph, np.ndarray, np.ndarray]:
    """The graph, its input, the exact result."""
    rng = np.random.default_rng([k, n])
    x, w, c = (rng.uniform(-1, 1, s).astype(np.float32) for s in ((rows, k), (k, n), n))
    b = Builder("net")
    y = b.add("Gemm", b.input("x", np.float32, x.shape), b.constant(w), *([b.constant(c)] if bias else []))
    if epilogue == "Add":
        y = b.add("Add", y, b.add("Mul", b.input("z", np.float32, (rows, n)), b.constant(1, np.float32)))
    elif epilogue != "none":
        y = b.add(epilogue, y)
    exact = x.astype(np.float64) @ w + (c if bias else 0)
    return b.build({"y": y}), x, EPILOGUES[epilogue](exact)


def compiled(graph: Graph, target: str = "cpu", threads: int = 1) -> graphc.Model:
    require(target)
    return graphc.compile(graph, target=target, threads=threads)


def near(model: graphc.Model) -> bool:
    """Do its products run in the loop of their own?"""
    return all(f"_{NEAR}" in s.kernel for s in model.plan().steps if s.kernel.startswith("product_tile"))


@pytest.mark.parametrize("target", ["cpu:avx512", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize(("k", "n"), [(512, 256), (257, 300), (1000, 65), (300, 391), (15, 8000), (4100, 17)])
def test_against_float64(k: int, n: int, epilogue: str, target: str):
    """Depths and widths that fill their vectors or not, one tile of columns and many."""
    graph, x, want = product(k, n, epilogue)
    model = compiled(graph, target)
    feeds = {"x": x} | ({"z": np.full((1, n), 0.25, np.float32)} if epilogue == "Add" else {})
    assert near(model)
    # sums of k products of numbers below 1
    np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=0, atol=2e-7 * k**0.5 * 8)


def test_without_a_bias():
    graph, x, want = product(600, 200, "Relu", bias=False)
    model = compiled(graph)
    assert near(model)
    np.testing.assert_allclose(model.run({"x": x})["y"], want, rtol=0, atol=4e-5)


@pytest.mark.parametrize(("k", "n", "rows"), [(100, 100, 1), (1024, 1024, 1), (600, 200, 2)])
def test_other_products_use_the_tile(k: int, n: int, rows: int):
    """Weights of 40 KB, of 4 MB, and two rows; the second one's fit no cache, and fetch ahead."""
    graph, x, want = product(k, n, "none", rows)
    model = compiled(graph)
    assert not near(model) and (k * n * 4 in NEAR_BYTES) == (rows == 2)
    np.testing.assert_allclose(model.run({"x": x})["y"], want, rtol=0, atol=1e-4)


def test_equal_bits_for_every_number_of_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "SHARED_STEP", 0)
    monkeypatch.setattr(run, "SHARED_PROGRAM", 0)
    graph, x, _ = product(257, 700, "Tanh")
    results = [compiled(graph, threads=n).run({"x": x})["y"] for n in (1, 2, 3)]
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])

"""Matrix products at the sizes where their kernels change: chunks of a long reduction, blocks of rows, edges, threads."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.graph import Builder, Graph


def product(m: int, k: int, n: int, epilogue: bool) -> Graph:
    """x w, with a bias, Gelu and a residual behind it."""
    rng = np.random.default_rng([m, k, n])
    b = Builder("product")
    y = b.add("MatMul", b.input("x", np.float32, (m, k)), b.constant(rng.standard_normal((k, n)) / k**0.5, np.float32))
    if epilogue:
        y = b.add("Gelu", b.add("Add", y, b.constant(rng.standard_normal(n), np.float32)))
        y = b.add("Add", y, b.input("residual", np.float32, (m, n)))
    return b.build({"y": y})


def run(graph: Graph, target: str = "cpu", threads: int = 1) -> np.ndarray:
    rng = np.random.default_rng(1)
    feeds = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    require(target)
    model = graphc.compile(graph, target=target, threads=threads)
    got = model.run(feeds)["y"]
    exact = graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    return got


# rows in one tile, in a few, in an overlapping last one, in several blocks; columns of an edge tile; one to three chunks
SIZES = [(1, 2100, 40), (9, 2100, 50), (13, 1025, 100), (35, 3000, 33), (50, 1024, 96), (430, 1500, 20)]


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("epilogue", [False, True], ids=["plain", "epilogue"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(sizes, epilogue, target):
    run(product(*sizes, epilogue), target)


@pytest.mark.parametrize("sizes", [(13, 1025, 100), (70, 2100, 300), (430, 700, 60)], ids=str)
def test_the_same_bits_for_every_number_of_threads(sizes):
    graph = product(*sizes, True)
    one = run(graph)
    for threads in (2, 5):
        np.testing.assert_array_equal(one, run(graph, threads=threads))


def test_products_of_one_operand_share_its_packing():
    rng = np.random.default_rng(0)
    b = Builder("projections")
    x = b.add("Relu", b.input("x", np.float32, (64, 256)))
    results = [b.add("MatMul", x, b.constant(rng.standard_normal((256, 64)), np.float32)) for _ in range(3)]
    model = graphc.compile(b.build(results), threads=2)
    kernels = [s.kernel for s in model.plan().steps]
    assert kernels.count("pack_rows") == 1
    assert sum(k.startswith("product_tile") for k in kernels) == 3


def test_every_batch_size_uses_the_same_packed_weights():
    b = Builder("batches")
    x = b.input("x", np.float32, ("n", 64))
    w = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    model = graphc.compile(b.build([b.add("MatMul", x, b.constant(w))]), threads=1)
    packed = set()
    for n in (2, 7, 33, 300):
        model.plan({"x": (n, 64)})
        packed.add(model._source.backend.weights.nbytes)
    assert len(packed) == 1


@pytest.mark.parametrize("target", ["cpu", "cpu:portable"])
@pytest.mark.parametrize("dtype", ["int32", "uint64", "float64"])
@pytest.mark.parametrize(
    "a, b, perm",
    [
        ((3, 5), (5, 7), None),
        ((70, 33), (33, 130), None),
        ((37, 20), (41, 20), (1, 0)),
        ((2, 3, 9, 20), (2, 1, 66, 20), (0, 1, 3, 2)),
        ((4, 1, 20), (20, 300), None),
    ],
)
def test_products_of_other_dtypes_are_exact(a: tuple, b: tuple, perm: tuple | None, dtype: str, target: str):
    """Integers wrap around; whole numbers in float64 are exact."""
    rng, most = np.random.default_rng(0), 2**31 - 1 if dtype != "float64" else 1000
    x, w = (rng.integers(0, most, shape).astype(dtype) for shape in (a, b))
    g = Builder("product")
    right = g.input("w", dtype, b)
    y = g.add("MatMul", g.input("x", dtype, a), right if perm is None else g.add("Transpose", right, perm=perm))
    model = graphc.compile(g.build({"y": y}), target=target, threads=2)
    want = np.matmul(x, w if perm is None else w.transpose(perm))
    np.testing.assert_array_equal(model.run({"x": x, "w": w})["y"], want)
    assert not [s for s in model.plan().steps if s.host]

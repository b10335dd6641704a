"""Products by Strassen's algorithm: sizes at which its cuts change, accuracy, threads, when it serves."""

from __future__ import annotations

import numpy as np
import pytest
from test_product_chunks import product, run

import graphc
from graphc.graph import Builder, Graph

# rows: even, odd, several blocks with shorter ones among them; columns: whole tiles, an edge tile; a long reduction
SIZES = [(128, 512, 768), (97, 576, 544), (197, 2048, 512), (513, 512, 576), (600, 544, 512)]


def algorithms(model: graphc.Model) -> list[str]:
    return [s.algorithm for s in model.plan().steps if s.algorithm in ("strassen", "gemm")]


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("epilogue", [False, True], ids=["plain", "epilogue"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(sizes, epilogue, target):
    graph = product(*sizes, epilogue)
    run(graph, target)
    assert algorithms(graphc.compile(graph, target=target)) == ["strassen"]


@pytest.mark.parametrize("sizes", [(129, 512, 544), (600, 544, 512)], ids=str)
def test_the_same_bits_for_every_number_of_threads(sizes):
    graph = product(*sizes, True)
    one = run(graph)
    for threads in (2, 5):
        np.testing.assert_array_equal(one, run(graph, threads=threads))


def test_a_large_bias_harms_no_other_column():
    """It is added behind the sums: the columns of both halves share products."""
    rng = np.random.default_rng(0)
    bias = np.zeros(512, np.float32)
    bias[:10] = -1e9
    b = Builder("masked")
    x = b.input("x", np.float32, (128, 512))
    w = rng.standard_normal((512, 512)).astype(np.float32)
    model = graphc.compile(b.build({"y": b.add("Gemm", x, b.constant(w), b.constant(bias))}))
    feeds = {"x": rng.standard_normal((128, 512)).astype(np.float32)}
    exact = feeds["x"].astype(np.float64) @ w
    got = model.run(feeds)["y"]
    assert algorithms(model) == ["strassen"]
    np.testing.assert_allclose(got[:, 10:], exact[:, 10:], rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("transposed", [False, True])
def test_gemm_with_factors(transposed):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((512, 640)).astype(np.float32)
    b = Builder("gemm")
    x = b.input("x", np.float32, (100, 512))
    y = b.add("Gemm", x, b.constant(w.T.copy() if transposed else w), None, alpha=0.5, transB=int(transposed))
    model = graphc.compile(b.build({"y": y}))
    feeds = {"x": rng.standard_normal((100, 512)).astype(np.float32)}
    exact = 0.5 * (feeds["x"].astype(np.float64) @ w)
    assert algorithms(model) == ["strassen"]
    np.testing.assert_allclose(model.run(feeds)["y"], exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_products_of_one_operand_share_its_factors():
    rng = np.random.default_rng(0)
    b = Builder("projections")
    x = b.add("Relu", b.input("x", np.float32, (128, 512)))
    results = [b.add("MatMul", x, b.constant(rng.standard_normal((512, 512)), np.float32)) for _ in range(3)]
    kernels = [s.kernel for s in graphc.compile(b.build(results), threads=2).plan().steps]
    assert kernels.count("strassen_factors") == 1


def one_product(m: int, k: int, n: int, constant: bool = True) -> Graph:
    b = Builder("one")
    w = b.constant(np.ones((k, n), np.float32)) if constant else b.input("w", np.float32, (k, n))
    return b.build({"y": b.add("MatMul", b.input("x", np.float32, (m, k)), w)})


@pytest.mark.parametrize(
    "graph",
    [
        one_product(16, 768, 768),  # few rows
        one_product(128, 64, 768),  # a short reduction
        one_product(128, 768, 64),  # few columns
        one_product(128, 768, 1000),  # halves that are no whole vectors
        one_product(128, 768, 768, constant=False),
    ],
    ids=["rows", "depth", "columns", "vectors", "computed"],
)
def test_where_it_does_not_serve(graph):
    assert algorithms(graphc.compile(graph)) == ["gemm"]


def test_it_can_be_left_out():
    graph = one_product(128, 768, 768)
    assert algorithms(graphc.compile(graph)) == ["strassen"]
    assert algorithms(graphc.compile(graph, disabled=["strassen"])) == ["gemm"]
    with pytest.raises(graphc.GraphcError, match="(?s)no pass is named 'strasen'.*did you mean 'strassen'"):
        graphc.compile(graph, disabled=["strasen"])

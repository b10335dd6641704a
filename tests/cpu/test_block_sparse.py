"""Products that leave blocks of zeros out: exactly what is left in, on every instruction set, and when they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from targets import offered

import graphc
from graphc.graph import Builder, Graph

F32 = np.dtype(np.float32)
TARGETS = offered("cpu:avx512", "cpu:avx2", "cpu:portable")


def weights(k: int, n: int, zeros: float, block: tuple[int, int] = (1, 16), seed: int = 0) -> np.ndarray:
    """Whole numbers [k, n], whose products and sums are exact in float32; so many of the blocks are zero."""
    rng = np.random.default_rng(seed)
    down, across = -(-k // block[0]), -(-n // block[1])
    kept = rng.permutation(down * across).reshape(down, across) >= zeros * down * across
    return rng.integers(1, 9, (k, n)).astype(F32) * kept.repeat(block[0], 0).repeat(block[1], 1)[:k, :n]


def product(w: np.ndarray, rows: int | str, turned: bool = False, bias: bool = False) -> Graph:
    b = Builder()
    x = b.input("x", F32, (rows, w.shape[0]))
    c = [b.constant(np.arange(w.shape[1]), F32)] if bias else []
    y = b.add("Gemm", x, b.constant(np.ascontiguousarray(w.T) if turned else w), *c, transB=turned)
    return b.build([b.add("Relu", y) if bias else y])


def numbers(rows: int, k: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(-8, 9, (rows, k)).astype(F32)


def algorithms(model: graphc.Model) -> list[str]:
    return [s.algorithm for s in model.plan().steps if s.algorithm]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows,k,n", [(1, 64, 16), (1, 131, 70), (5, 64, 33), (37, 100, 81), (70, 200, 48)])
def test_exact(rows: int, k: int, n: int, target: str):
    w = weights(k, n, 0.6)
    model = graphc.compile(product(w, rows, bias=True), target=target, threads=1)
    x = numbers(rows, k)
    np.testing.assert_array_equal(model(x), np.maximum(x @ w + np.arange(n, dtype=F32), 0))
    assert algorithms(model) == ["block_sparse"]


@given(
    rows=st.integers(1, 40),
    k=st.integers(64, 150),
    n=st.integers(1, 100),
    zeros=st.floats(0.3, 1),
    turned=st.booleans(),
    height=st.sampled_from([1, 3, 16]),
)
def test_any_size(rows: int, k: int, n: int, zeros: float, turned: bool, height: int):
    w = weights(k, n, zeros, (height, 16), seed=k)
    x = numbers(rows, k)
    found = graphc.compile(product(w, rows, turned), threads=2)(x)
    np.testing.assert_array_equal(found, x @ w)


def test_sizes_that_are_open():
    w = weights(128, 64, 0.7)
    model = graphc.compile(product(w, "n"))
    for rows in (1, 2, 3, 9, 50, 1):
        x = numbers(rows, 128)
        np.testing.assert_array_equal(model(x), x @ w)


def test_columns_of_nothing():
    w = weights(96, 48, 0.5)
    w[:, 16:32] = 0
    x = numbers(3, 96)
    np.testing.assert_array_equal(graphc.compile(product(w, 3, bias=True))(x), np.maximum(x @ w + np.arange(48), 0))


def test_batches_of_one_matrix():
    w = weights(64, 32, 0.7)
    b = Builder()
    x = b.input("x", F32, (2, 3, 64))
    model = graphc.compile(b.build([b.add("MatMul", x, b.constant(w))]))
    x = numbers(6, 64).reshape(2, 3, 64)
    np.testing.assert_array_equal(model(x), x @ w)
    assert algorithms(model) == ["block_sparse"]


@pytest.mark.parametrize("rows", [1, 12])
def test_zeros_that_are_too_few(rows: int):
    """Below the break-even, or not in blocks of sixteen columns."""
    for w in (weights(128, 64, 0.1), weights(128, 64, 0.9, (16, 1)), weights(128, 64, 0.5, (1, 1))):
        assert algorithms(graphc.compile(product(w, rows))) == ["gemm"]


def test_switched_off():
    w, x = weights(128, 64, 0.7), numbers(4, 128)
    model = graphc.compile(product(w, 4), disabled=["block_sparse"])
    assert algorithms(model) == ["gemm"]
    np.testing.assert_array_equal(model(x), x @ w)


@pytest.mark.parametrize("rows", [1, 8])
def test_what_is_not_finite(rows: int):
    """An infinity in front of zeros that are left out adds nothing; in front of others it does."""
    w = weights(65, 32, 0.5)  # no multiple of what the loop takes at once
    x = numbers(rows, 65)
    x[:, 0] = np.inf
    left_out = np.repeat((w[0].reshape(2, 16) == 0).all(1), 16)
    found = graphc.compile(product(w, rows))(x)
    want = np.where(left_out, x[:, 1:] @ w[1:], np.inf)
    np.testing.assert_array_equal(found, want)


def test_what_shrink_writes():
    """Its blocks, in the layers of a network."""
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", F32, (4, 128))
    for _ in range(2):
        x = b.add("Gemm", x, b.constant(rng.standard_normal((128, 128)).astype(F32)), transB=True)
    small = graphc.shrink(b.build([x]), sparse=0.5)
    model = graphc.compile(small.graph)
    assert algorithms(model) == ["block_sparse"] * 2
    x = rng.standard_normal((4, 128)).astype(F32)
    plain = graphc.compile(small.graph, disabled=["block_sparse"])
    np.testing.assert_allclose(model(x), plain(x), rtol=1e-5, atol=1e-3)  # sums of 128 of about 100, in another order


@pytest.mark.parametrize("form", ["a vector", "one of a batch", "turned rows", "a batch of rows that turn"])
def test_forms(form: str):
    w = weights(96, 1 if form == "a vector" else 32, 0.7)
    b = Builder()
    shape = {"turned rows": (96, 5), "a batch of rows that turn": (3, 96, 5)}.get(form, (2, 5, 96))
    x = given_ = b.input("x", F32, shape)
    if form == "a batch of rows that turn":
        x = b.add("Transpose", x, perm=(0, 2, 1))
    if form == "turned rows":
        y = b.add("Gemm", x, b.constant(w), transA=True)
    else:
        y = b.add("MatMul", x, b.constant(w[:, 0] if form == "a vector" else w[None] if "batch" in form else w))
    model = graphc.compile(b.build([y]), threads=2)
    values = np.random.default_rng(0).integers(-8, 9, given_.shape).astype(F32)
    rows = values if shape[-1] == 96 else np.swapaxes(values, -1, -2)
    np.testing.assert_array_equal(model(values), rows @ (w[:, 0] if form == "a vector" else w))
    assert "block_sparse" in algorithms(model)

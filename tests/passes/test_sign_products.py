"""Products of signs: which are found, that sums are exact, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passcheck import F32, build, refused, rewritten
from targets import offered

import graphc
from graphc.graph import Builder, Graph, Value
from graphc.ops.sign_product import _unpacked, packed_signs
from graphc.passes.sign_products import sign_products

K, N = 70, 33
TARGETS = offered("cpu:avx512", "cpu:avx2", "cpu:portable")


def signs(k: int = K, n: int = N, zeros: bool = False, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(-1, 2, (k, n)) if zeros else rng.choice([-1, 1], (k, n))).astype(F32)


def either(b: Builder, x: Value, yes: float = 1, no: float = -1) -> Value:
    return b.add("Where", b.add("Greater", x, b.constant(0, F32)), b.constant(yes, F32), b.constant(no, F32))


def steps(b: Builder, x: Value) -> Value:
    """2 · (x > 0) - 1, as exporters of quantisers write it."""
    above = b.add("Cast", b.add("Greater", x, b.constant(0, F32)), to=F32)
    return b.add("Sub", b.add("Mul", above, b.constant(2, F32)), b.constant(1, F32))


def moved(b: Builder, x: Value) -> Value:
    return b.add("Transpose", b.add("Concat", *[either(b, x)] * 2, axis=1), perm=(1, 0))


def twice(b: Builder, x: Value, times: int) -> Value:
    """x, for which 2 ** times paths lead back."""
    for i in range(times):
        x = b.add("Max" if i % 2 else "Min", x, x)
    return x


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def product(of: Callable[[Builder, Value], Value], w: np.ndarray, rows: int = 5) -> Graph:
    return build(lambda b: b.add("MatMul", of(b, b.input("x", F32, (rows, len(w)))), b.constant(w)))


FOUND: dict[str, tuple[Callable[[Builder, Value], Value], bool]] = {
    "Sign": (lambda b, x: b.add("Sign", x), True),
    "Where": (either, False),
    "Where of three": (lambda b, x: b.add("Where", b.add("Equal", x, b.constant(0, F32)), b.constant(0, F32), either(b, x)), True),
    "twice and less one": (steps, False),
    "of half": (lambda b, x: either(b, x, 0.5, -0.5), False),
    "zeros and ones": (lambda b, x: either(b, x, 1, 0), True),
    "Clip of signs": (lambda b, x: b.add("Clip", b.add("Sign", x), b.constant(0, F32), b.constant([1], F32)), True),
    "a chain that reads each value twice": (lambda b, x: twice(b, either(b, x), 20), False),
    "Sign of a sum of signs": (lambda b, x: b.add("Sign", b.add("Add", either(b, x), either(b, b.add("Neg", x)))), True),
}  # fmt: skip


@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("name", FOUND)
def test_found(name: str, ternary: bool):
    """The interpreter's results are those of floats (passcheck)."""
    of, zeros = FOUND[name]
    graph = rewritten(sign_products, product(of, signs(zeros=ternary) * np.float32(0.25)))
    made = next(n for n in graph.nodes if n.op.name == "SignProduct")
    assert made.attrs["zeros"] is zeros and made.inputs[1].shape[0] == 1 + ternary


@pytest.mark.parametrize("operands", [40, 2])
def test_no_more_choices_are_tried_than_some(operands: int):
    """Of 40 operands there are 2 ** 40."""
    graph = product(lambda b, x: b.add("Max", *[either(b, x, -1, 1)] * operands), signs())
    assert ("SignProduct" in names(rewritten(sign_products, graph))) is (operands == 2)


def test_behind_a_constant_without_elements():
    def net(b: Builder) -> Value:
        x = b.add("Mul", either(b, b.input("x", F32, (1, K))), b.constant(np.zeros((0, 1), F32)))
        return b.add("MatMul", x, b.constant(signs()))

    graph = sign_products(build(net))
    assert "SignProduct" not in names(graph)


def test_behind_what_moves():
    graph = rewritten(
        sign_products, build(lambda b: b.add("MatMul", moved(b, b.input("x", F32, (K, 3))), b.constant(signs())))
    )
    assert "SignProduct" in names(graph)


@pytest.mark.parametrize("turned", [False, True])
def test_layers_with_a_scale_of_each_channel(turned: bool):
    w = signs() * 2.0 ** np.random.default_rng(0).integers(-3, 3, N).astype(F32)

    def make(b: Builder) -> Value:
        x = either(b, b.input("x", F32, (4, K)))
        return b.add(
            "Gemm",
            x,
            b.constant(np.ascontiguousarray(w.T) if turned else w),
            b.constant(np.arange(N), F32),
            transB=turned,
        )

    assert names(rewritten(sign_products, build(make)))[-2:] == ["Mul", "Add"]


REFUSED: dict[str, tuple[Callable[[Builder, Value], Value], np.ndarray, str]] = {
    "any numbers": (lambda b, x: b.add("Relu", x), signs(), "not known to be signs"),
    "two magnitudes": (lambda b, x: either(b, x, 2, -1), signs(), "not known to be signs"),
    "infinities": (lambda b, x: either(b, x, np.inf, -np.inf), signs(), "not known to be signs"),
    "few columns": (either, signs(n=8), "too small"),
    "few rows": (either, signs(k=32), "too small"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str):
    of, w, reason = REFUSED[name]
    assert reason in refused(sign_products, product(of, w))


@pytest.mark.parametrize("w", [signs() * np.linspace(1, 2, K, dtype=F32)[:, None], np.where(signs() > 0, np.inf, -1)])
def test_weights_that_are_no_signs(w: np.ndarray):
    graph = product(either, w.astype(F32))
    assert sign_products(graph) is graph


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ["Sign", "Where"])
@pytest.mark.parametrize("ternary", [False, True])
@pytest.mark.parametrize("rows,k,n", [(1, 64, 16), (1, 1125, 150), (5, 101, 33), (40, 640, 90)])
@pytest.mark.sample(12)
def test_sums_are_exact(rows: int, k: int, n: int, ternary: bool, how: str, target: str):
    w = signs(k, n, ternary)
    x = np.random.default_rng(k).integers(-2, 3, (rows, k)).astype(F32)
    model = graphc.compile(product(FOUND[how][0], w, rows), target=target, threads=1)
    np.testing.assert_array_equal(model(x), (np.sign(x) if how == "Sign" else np.where(x > 0, 1, -1)) @ w)
    assert any("SignProduct" in s.ops for s in model.plan().steps)


def test_long_sums():
    """More words than a chunk of the reduction has."""
    k = 40_000
    w, x = signs(k, 16), np.random.default_rng(0).standard_normal((30, k)).astype(F32)
    found = graphc.compile(product(either, w, 30), threads=1)(x)
    np.testing.assert_array_equal(found, np.where(x > 0, 1, -1) @ w.astype(np.float64))


@pytest.mark.parametrize("how", ["Sign", "Where"])
def test_nan(how: str):
    """A Sign makes NaN of it, which reaches the whole row; a comparison is false."""
    x = np.random.default_rng(0).standard_normal((3, K)).astype(F32)
    x[1, 7], x[2, 0] = np.nan, np.inf
    graph = product(FOUND[how][0], signs(), 3)
    found = graphc.compile(graph)(x)
    np.testing.assert_array_equal(found, graphc.compile(graph, disabled=["sign_products"])(x))
    assert np.isnan(found[1]).all() == (how == "Sign") and np.isfinite(found[[0, 2]]).all()


def test_sizes_that_are_open():
    w = signs(zeros=True)
    model = graphc.compile(build(lambda b: b.add("MatMul", b.add("Sign", b.input("x", F32, ("n", K))), b.constant(w))))
    for rows in (1, 2, 30, 5):
        x = np.random.default_rng(rows).standard_normal((rows, K)).astype(F32)
        np.testing.assert_array_equal(model(x), np.sign(x) @ w)


@given(k=st.integers(1, 100), n=st.integers(1, 20), zeros=st.booleans())
def test_bits_and_back(k: int, n: int, zeros: bool):
    w = signs(k, n, zeros, seed=k)
    np.testing.assert_array_equal(_unpacked(packed_signs(w), k), w)


def test_what_shrink_writes():
    """Binary weights behind signs."""
    rng = np.random.default_rng(0)
    b = Builder()
    y = b.add("MatMul", either(b, b.input("x", F32, (2, 128))), b.constant(rng.standard_normal((128, 64)), F32))
    small = graphc.shrink(b.build([y]), signs="ternary")
    x = rng.standard_normal((2, 128)).astype(F32)
    model = graphc.compile(small.graph)
    assert any("SignProduct" in s.ops for s in model.plan().steps)
    plain = graphc.compile(small.graph, disabled=["sign_products"])
    np.testing.assert_allclose(model(x), plain(x), rtol=1e-5, atol=1e-4)  # sums of 128, rounded there

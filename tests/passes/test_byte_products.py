"""Products of dequantized bytes: which become products of the bytes, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passcheck import F32, build, refused, rewritten

import graphc
from graphc.graph import Builder, Graph, Value
from graphc.interpret import interpret
from graphc.passes.byte_products import byte_products
from graphc.pipeline import SHAPE_FREE
from graphc.pipeline import run as run_passes

ROWS, DEPTH, COLUMNS = 5, 12, 7


def codes(b: Builder, x: Value, dtype: str = "uint8", scale: Any = 0.02, zero: Any = 100, **attrs: Any) -> Value:
    """x, quantized and dequantized."""
    q = b.add("QuantizeLinear", x, b.constant(scale, F32), b.constant(zero, dtype), **attrs)
    return b.add("DequantizeLinear", q, b.constant(scale, F32), b.constant(zero, dtype), **attrs)


def table(b: Builder, dtype: str, *shape: int, scale: Any = 0.01, zero: Any = 3, **attrs: Any) -> Value:
    info = np.iinfo(dtype)
    data = np.random.default_rng(shape).integers(info.min, info.max, shape, dtype, endpoint=True)
    zeros = None if zero is None else b.constant(zero, dtype)
    return b.add("DequantizeLinear", b.constant(data), b.constant(scale, F32), zeros, **attrs)


def of_columns(n: int) -> dict[str, Any]:
    return {"scale": 0.01 * 1.1 ** np.arange(n), "zero": np.arange(n) % 5}


def activations(b: Builder, *shape: int) -> Value:
    return b.input("x", F32, shape or (ROWS, DEPTH))


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


@pytest.mark.parametrize("kinds", [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")], ids="-".join)
@pytest.mark.parametrize("columns", [{}, {"zero": None}, of_columns(COLUMNS)], ids=["one", "no zero", "of columns"])
def test_a_matrix_product(kinds: tuple[str, str], columns: dict[str, Any]):
    """The interpreter's results are those of floats, to their rounding (passcheck)."""

    def make(b):
        a = codes(b, activations(b), kinds[0], zero=100 if kinds[0] == "uint8" else -20)
        return b.add("MatMul", a, table(b, kinds[1], DEPTH, COLUMNS, axis=1, **columns))

    assert "MatMulInteger" in names(rewritten(byte_products, build(make)))


@pytest.mark.parametrize("turned", [False, True])
def test_a_linear_layer(turned: bool):
    def make(b):
        shape, axis = ((COLUMNS, DEPTH), 0) if turned else ((DEPTH, COLUMNS), 1)
        w = table(b, "int8", *shape, axis=axis, **of_columns(COLUMNS))
        return b.add("Gemm", codes(b, activations(b)), w, b.constant(np.arange(COLUMNS), F32), transB=turned)

    assert "MatMulInteger" in names(rewritten(byte_products, build(make)))


def test_an_operand_whose_rank_is_not_known_yet():
    """Exporters compute the shape that they reshape to, which is folded later."""

    def make(b):
        x = activations(b, "n", DEPTH)
        shape = b.add("Concat", b.add("Shape", x), b.constant([1], np.int64), axis=0)
        return b.add("MatMul", codes(b, b.add("Squeeze", b.add("Reshape", x, shape))), table(b, "int8", DEPTH, COLUMNS))

    graph = run_passes(build(make), SHAPE_FREE)
    assert "MatMulInteger" in names(graph) and "MatMul" not in names(graph)


def test_that_runs_before_weights_become_floats():
    def make(b):
        return b.add("MatMul", codes(b, activations(b)), table(b, "int8", DEPTH, COLUMNS))

    assert all(v.dtype != np.int8 or v.is_const for v in run_passes(build(make), SHAPE_FREE).values())
    assert "MatMulInteger" in names(run_passes(build(make), SHAPE_FREE))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda b: b.add(
                "MatMul", codes(b, activations(b)), table(b, "int8", DEPTH, COLUMNS, axis=0, **of_columns(DEPTH))
            ),
            "of a whole operand or of columns",
        ),
        (
            lambda b: b.add(
                "MatMul", codes(b, activations(b), axis=1, **of_columns(DEPTH)), table(b, "int8", DEPTH, COLUMNS)
            ),
            "of a whole operand or of columns",
        ),
        (
            lambda b: b.add("MatMul", codes(b, activations(b, 2, ROWS, DEPTH)), table(b, "int8", 2, DEPTH, COLUMNS)),
            "no matrix",
        ),
        (
            lambda b: b.add("Gemm", codes(b, activations(b)), table(b, "int8", DEPTH, COLUMNS), alpha=2.0),
            "has factors",
        ),
        (
            lambda b: b.add("MatMul", codes(b, activations(b, 1, 40_000)), table(b, "int8", 40_000, 1)),
            "leave int32",
        ),
    ],
    ids=["scales of rows", "scales of the depth", "a stack", "a factor", "many rows"],
)
def test_what_stays(make, reason: str):
    assert reason in refused(byte_products, build(make))


def test_the_steps_are_those_of_bytes():
    def make(b):
        a = codes(b, activations(b, 40, 64))
        return b.add("MatMul", a, table(b, "int8", 64, 48, axis=1, **of_columns(48)))

    graph = build(make)
    model = graphc.compile(graph, threads=1)
    assert any(s.algorithm == "gemm of bytes" for s in model.plan().steps)
    x = np.random.default_rng(0).standard_normal((40, 64), np.float32)
    want = interpret(graph, {"x": x})["y0"]
    # the sums are exact, those of floats are rounded 64 times
    np.testing.assert_allclose(model(x), want, rtol=0, atol=1e-5 * np.abs(want).max())

"""Reductions of many rows at once: every number of rows and elements around a vector's, dtypes, threads, instruction sets."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.graph import Builder

SIZES = [1, 2, 7, 8, 15, 16, 17, 33, 64, 65, 130]


def model(op: str, dtype: str, axes: list[int], rank: int = 2, **options) -> graphc.Model:
    b = Builder("rows")
    x = b.input("x", dtype, tuple(f"d{i}" for i in range(rank)))
    return graphc.compile(b.build({"y": b.add(op, x, b.constant(axes), keepdims=False)}), **options)


def numbers(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    kind = np.dtype(dtype)
    return rng.integers(-5, 6, shape).astype(kind) if kind.kind == "i" else rng.standard_normal(shape).astype(kind)


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize(("op", "f"), [("ReduceMax", np.max), ("ReduceSum", np.sum), ("ReduceMean", np.mean)])
def test_rows(op: str, f, target: str):
    require(target)
    rng = np.random.default_rng(0)
    run, threaded = (
        model(op, "float32", [1], target=target, threads=1),
        model(op, "float32", [1], target=target, threads=2),
    )
    for rows in SIZES:
        for n in SIZES:
            x = numbers(rng, "float32", rows, n)
            np.testing.assert_allclose(
                run(x), f(x.astype(np.float64), 1), rtol=0, atol=2e-6 * max(1.0, np.abs(x).sum(1).max())
            )
            assert np.array_equal(run(x), threaded(x))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "int64"])
def test_dtypes(dtype: str):
    rng = np.random.default_rng(1)
    run = {op: model(op, dtype, [1]) for op in ("ReduceMin", "ReduceSum")}
    for rows, n in ((5, 3), (16, 16), (33, 70)):
        x = numbers(rng, dtype, rows, n)
        assert np.array_equal(run["ReduceMin"](x), x.min(1))
        want = x.astype(np.float64).sum(1)
        np.testing.assert_allclose(
            run["ReduceSum"](x).astype(np.float64), want, atol=1e-2 if dtype == "float16" else 1e-9
        )


@pytest.mark.parametrize("columns", SIZES)
def test_columns(columns: int):
    rng = np.random.default_rng(2)
    run = model("ReduceMax", "float32", [1], rank=3)
    for length in (1, 3, 4, 5, 29):
        x = numbers(rng, "float32", 3, length, columns)
        assert np.array_equal(run(x), x.max(1))


def test_nan_stays_in_its_row():
    x = np.random.default_rng(3).standard_normal((40, 37)).astype(np.float32)
    x[5, 36] = x[21, 0] = np.nan
    y = model("ReduceMax", "float32", [1])(x)
    assert np.flatnonzero(np.isnan(y)).tolist() == [5, 21]
    assert np.array_equal(np.delete(y, [5, 21]), np.delete(x, [5, 21], 0).max(1))

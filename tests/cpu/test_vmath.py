"""Accuracy of the vector functions: the largest error in units in the last place, on dense grids and special values."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc
from graphc.errors import UnsupportedError
from graphc.graph import Builder

# ulp; measured on the grids below with AVX-512: exp 0.99, log 0.77, tanh 2.02, sigmoid 2.39, erf 0.98 (1.03 without FMA)
LIMITS = {"Exp": 1.0, "Log": 0.8, "Tanh": 2.1, "Sigmoid": 2.5, "Erf": 1.05}
EXACT = {
    "Exp": math.exp,
    "Log": math.log,
    "Tanh": math.tanh,
    "Sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "Erf": math.erf,
}
RANGES = {"Exp": (-87.0, 88.7), "Log": (1e-37, 1e30), "Tanh": (-12, 12), "Sigmoid": (-80, 80), "Erf": (-5, 5)}
NAN, INF = math.nan, math.inf
SPECIAL = {
    "Exp": [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (89, INF), (-104, 0), (NAN, NAN)],
    "Log": [(1, 0), (0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN), (NAN, NAN)],
    "Tanh": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (100, 1), (-100, -1), (NAN, NAN)],
    "Sigmoid": [(0, 0.5), (INF, 1), (-INF, 0), (200, 1), (-200, 0), (NAN, NAN)],
    "Erf": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (10, 1), (-10, -1), (NAN, NAN)],
}
TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]


def evaluate(name: str, x: np.ndarray, target: str) -> np.ndarray:
    b = Builder()
    graph = b.build([b.add(name, b.input("x", x.dtype, ("n",)))])
    try:
        return graphc.compile(graph, target=target, threads=1)(x)
    except UnsupportedError as error:
        pytest.skip(str(error))


def ulp_errors(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|y - exact| in units of the last place of the float32 nearest to exact."""
    unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return np.abs(y.astype(np.float64) - exact) / unit


def grid(name: str) -> np.ndarray:
    """Evenly spaced numbers over the range, and evenly spaced bit patterns: every exponent gets its share."""
    low, high = RANGES[name]
    spread = np.geomspace(max(low, 1e-37), high, 40_001)
    even = np.linspace(low, high, 60_001)
    both = np.concatenate([even, spread, -spread[spread < -low]])
    return both.astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LIMITS)
def test_error_in_ulp(name: str, target: str):
    x = grid(name)
    exact = np.array([EXACT[name](v) for v in x.astype(np.float64)])
    errors = ulp_errors(evaluate(name, x, target), exact)
    worst = int(errors.argmax())
    assert errors[worst] <= LIMITS[name], f"{errors[worst]:.3f} ulp at x = {x[worst]!r}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, target: str):
    x, want = (np.array(column, np.float32) for column in zip(*SPECIAL[name]))
    x, want = np.tile(x, 9), np.tile(want, 9)  # in whole vectors and in what is left of a row
    y = evaluate(name, x, target)
    np.testing.assert_array_equal(y, want)
    known = ~np.isnan(want) & (want != 0) | (np.isin(name, ["Tanh", "Erf"]) & (want == 0))
    np.testing.assert_array_equal(np.signbit(y[known]), np.signbit(want[known]))


@pytest.mark.parametrize("target", TARGETS)
def test_gradual_underflow(target: str):
    x = np.linspace(-103.5, -87.4, 3001).astype(np.float32)
    y, exact = evaluate("Exp", x, target), np.exp(x.astype(np.float64))
    assert np.abs(y - exact).max() <= 1.01 * 2.0**-149
    tiny = np.array([2.0**-149, 2.0**-140, 2.0**-127], np.float32)
    assert ulp_errors(evaluate("Log", tiny, target), np.log(tiny.astype(np.float64))).max() <= 1


@pytest.mark.parametrize("name", LIMITS)
def test_float64_is_the_c_library(name: str):
    low, high = RANGES[name]
    x = np.linspace(max(low, 1e-6), high, 999)
    exact = np.array([EXACT[name](v) for v in x])
    np.testing.assert_allclose(evaluate(name, x, "cpu"), exact, rtol=4e-16)

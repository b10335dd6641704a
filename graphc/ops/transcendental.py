"""Exponentials, logarithms, roots, trigonometric and hyperbolic functions of floats."""

from __future__ import annotations

import math

import numpy as np

from graphc import expr as e
from graphc.op import Laws
from graphc.ops.elementwise import ROUNDED, elementwise, kind_of
from graphc.ops.precision import NUMERIC


def erf_reference(x: np.ndarray) -> np.ndarray:
    """The error function, element by element: NumPy has none."""
    return np.fromiter(map(math.erf, x.ravel()), np.float64, x.size).reshape(x.shape)


elementwise("Sqrt", "x", e.sqrt, np.sqrt, low=0, high=9, tolerance=ROUNDED)
elementwise("Exp", "x", e.exp, np.exp, high=8, laws=Laws(not_negative=True))
elementwise("Log", "x", e.log, np.log, low=0.01, high=9)


def _erf(x: e.Expr) -> e.Expr:
    """Of integers, which opsets 9 to 12 have, cut off: 1 where the float64 result is 1."""
    if kind_of(x) == "f":
        return e.erf(x)
    wide = e.cast(x, "float64")  # two bits do not hold the bound
    at_least_one = e.where(wide > _ONE, e.const(1, x.dtype), 0)
    return at_least_one if kind_of(x) == "u" else e.where(wide < -_ONE, -1, at_least_one)


_ONE = 5  # erf(5) is 1 - 1.5e-12, erf(6) 1 - 2e-17
elementwise("Erf", "x", _erf, erf_reference, takes=NUMERIC)
elementwise("Sin", "x", e.sin, np.sin, low=-20, high=20)
elementwise("Cos", "x", e.cos, np.cos, low=-20, high=20)
elementwise("Tan", "x", e.tan, np.tan, low=-1.4, high=1.4)  # the poles magnify the rounding of x
elementwise("Asin", "x", e.asin, np.arcsin, low=-1, high=1)
elementwise("Acos", "x", e.acos, np.arccos, low=-1, high=1)
elementwise("Atan", "x", e.atan, np.arctan)
elementwise("Sinh", "x", e.sinh, np.sinh)
elementwise("Cosh", "x", e.cosh, np.cosh)
elementwise("Asinh", "x", e.asinh, np.arcsinh)
elementwise("Acosh", "x", e.acosh, np.arccosh, low=1, high=9)
elementwise("Atanh", "x", e.atanh, np.arctanh, low=-0.99, high=0.99)

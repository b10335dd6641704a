"""Arithmetic: sums, products, quotients, powers, extremes, rounding. Integers wrap around, as in two's complement."""

from __future__ import annotations

from functools import reduce

import numpy as np

from graphc import expr as e
from graphc.op import Attr, Call, Case, Domain, Kind, Op, Tensor, register
from graphc.ops.elementwise import EXACT, ROUNDED, broadcast_shapes, elementwise, kind_of, require
from graphc.ops.precision import NUMERIC, SIGNED, in_float32, is_float
from graphc.types import TensorType, may_be

elementwise("Add", "a b", lambda a, b: a + b, np.add, takes=NUMERIC, tolerance=ROUNDED)
elementwise("Sub", "a b", lambda a, b: a - b, np.subtract, takes=NUMERIC, tolerance=ROUNDED)
elementwise("Mul", "a b", lambda a, b: a * b, np.multiply, takes=NUMERIC, tolerance=ROUNDED)
elementwise("Neg", "x", lambda x: -x, np.negative, takes=SIGNED, tolerance=EXACT)
elementwise(
    "Abs", "x", lambda x: x if kind_of(x) == "u" else e.absolute(x), np.absolute, takes=NUMERIC, tolerance=EXACT
)
elementwise("Reciprocal", "x", lambda x: e.div(1, x), np.reciprocal, tolerance=ROUNDED)
elementwise("Floor", "x", e.floor, np.floor, tolerance=EXACT)
elementwise("Ceil", "x", e.ceil, np.ceil, tolerance=EXACT)
elementwise("Round", "x", e.rint, np.rint, tolerance=EXACT)


def _sign(x):
    if kind_of(x) == "u":
        return e.minimum(x, 1)
    return e.where(x > 0, 1, e.where(x < 0, -1, x))  # zeros and NaN stay


elementwise("Sign", "x", _sign, np.sign, takes=NUMERIC, tolerance=EXACT)


# --- quotients: the cases add divisors below zero, the range keeps integer divisors from being zero -------------------
_DIVISORS = (
    Case((Tensor((2, 3), -20, 20), Tensor((2, 3), 1, 7))),
    Case((Tensor((2, 3), -20, 20, "int32"), Tensor((3,), -7, -1, "int32"))),
    Case((Tensor((4, 1), -100, 100, "int8"), Tensor((1, 5), -7, -1, "int8"))),
    Case((Tensor((4, 1), -20, 20, "float32"), Tensor((1, 5), -7, -0.5, "float32"))),
)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers truncate toward zero, in whole numbers: a - fmod(a, b) is a multiple of b."""
    return np.divide(a, b) if is_float(a.dtype) else np.floor_divide(a - np.fmod(a, b), b)


elementwise(
    "Div", "a b", e.div, _quotient, takes=NUMERIC, low=(-20, 1), high=(20, 7), cases=_DIVISORS, tolerance=ROUNDED
)


def _mod(a, b, fmod):
    """Remainder with the sign of the divisor, or of the dividend with fmod."""
    remainder = e.fmod(a, b) if kind_of(a) == "f" else a - e.div(a, b) * b
    if fmod or kind_of(a) == "u":
        return remainder
    return e.where((remainder < 0) ^ (b < 0), e.where(e.eq(remainder, 0), remainder, remainder + b), remainder)


elementwise(
    "Mod",
    "a b",
    _mod,
    lambda a, b, fmod: np.fmod(a, b) if fmod else np.mod(a, b),
    takes=NUMERIC,
    attrs={"fmod": Attr(bool, False)},
    low=(-20, 1),
    high=(20, 7),
    cases=(*_DIVISORS, *(Case(c.inputs, {"fmod": True}) for c in _DIVISORS)),
    tolerance=ROUNDED,
)


# --- powers: the result has the dtype of the base ---------------------------------------------------------------------
def _infer_pow(call: Call) -> list[TensorType]:
    x, y = call.type(0), call.type(1)
    require(call, NUMERIC, x.dtype)
    require(call, NUMERIC, y.dtype)
    return [TensorType(x.dtype, broadcast_shapes(call, [x, y]))]


_POWERS = {1: lambda x: x, 2: lambda x: x * x, 3: lambda x: x * x * x, -1: lambda x: e.div(1, x)}
_POWERS |= {0.5: e.sqrt, -0.5: lambda x: e.div(1, e.sqrt(x))}


def _pow(x: e.Expr, y: e.Expr) -> e.Expr:
    """Usual constant exponents without pow; integers to a power in float64, exact below 2**53."""
    if kind_of(x) != "f":
        return e.cast(e.pow(e.cast(x, "float64"), e.cast(y, "float64")), x.dtype)
    if y.prim == "const" and y.value in _POWERS:
        return _POWERS[y.value](x)
    return e.pow(x, e.cast(y, x.dtype))


def _pow_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.power(x, y.astype(x.dtype)) if is_float(x.dtype) else np.power(x.astype(float), y.astype(float))


register(
    Op(
        "Pow",
        ("x", "y"),
        Kind.ELEMENTWISE,
        _infer_pow,
        in_float32(_pow_reference),
        scalar=_pow,
        domain=Domain(
            ("float32", "float64", "int32", "int64"),
            low=(0.1, -2),
            high=(3, 2),
            cases=(
                Case((Tensor((2, 3), -3, 3), Tensor((), 2, 2, "int64"))),
                Case((Tensor((2, 3), -3, 3, "float32"), Tensor((2, 1), -3, 3, "int32"))),
                Case((Tensor((2, 3), 0, 9, "int32"), Tensor((3,), 0, 3, "float32"))),
            ),
        ),
    )
)


# --- any number of operands -------------------------------------------------------------------------------------------
def _total(*xs):
    return reduce(lambda a, b: a + b, xs)


def _mean(*xs):
    return _total(*xs) * (1 / len(xs))


# the range leans to one side, so that sums do not cancel
elementwise("Sum", "x *xs", _total, lambda *xs: np.sum(np.broadcast_arrays(*xs), 0), low=-1)
elementwise("Mean", "x *xs", _mean, lambda *xs: np.mean(np.broadcast_arrays(*xs), 0), low=-1)
elementwise(
    "Max",
    "x *xs",
    lambda *xs: reduce(e.maximum, xs),
    lambda *xs: reduce(np.maximum, xs),
    takes=NUMERIC,
    tolerance=EXACT,
)
elementwise(
    "Min",
    "x *xs",
    lambda *xs: reduce(e.minimum, xs),
    lambda *xs: reduce(np.minimum, xs),
    takes=NUMERIC,
    tolerance=EXACT,
)


# --- Clip: its bounds are single numbers ------------------------------------------------------------------------------
def _infer_clip(call: Call) -> list[TensorType]:
    x = call.type(0)
    require(call, NUMERIC, x.dtype)
    for i, name in ((1, "min"), (2, "max")):
        if not call.has(i):
            continue
        if call.dtype(i) != x.dtype:
            raise call.fail(f"'{name}' differs in dtype from the operand", "insert a Cast")
        if not all(may_be(d, 1) for d in call.shape(i)) or call.rank(i) > max(1, x.rank):
            raise call.fail(f"'{name}' must be one number", "use Max and Min for bounds that differ by element")
    return [TensorType(x.dtype, x.shape)]


def _clip(x, low=None, high=None):
    x = x if low is None else e.maximum(x, low)
    return x if high is None else e.minimum(x, high)


def _clip_reference(x: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None) -> np.ndarray:
    if low is not None:
        x = np.where(x < low.reshape(()), low.reshape(()), x)
    if high is not None:
        x = np.where(x > high.reshape(()), high.reshape(()), x)
    return x


elementwise(
    "Clip",
    "x min? max?",
    _clip,
    _clip_reference,
    takes=NUMERIC,
    infer=_infer_clip,
    cases=(
        Case((Tensor((2, 3), -9, 9), Tensor((), -3, 0), Tensor((), 1, 3))),
        Case((Tensor((2, 3), -9, 9), Tensor((), 2, 3), Tensor((), 0, 1))),  # max wins where min is above it
        Case((Tensor((2, 3), -9, 9), Tensor((1,), -3, 0), None)),
        Case((Tensor((2, 3), -9, 9), None, Tensor((), 1, 3))),
        Case((Tensor((2, 3), -9, 9),)),
    ),
    tolerance=EXACT,
)

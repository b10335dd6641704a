"""Arithmetic: sums, products, quotients, powers, extremes, rounding. Integers wrap around, as in two's complement."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_float
from graphc.op import Attr, Call, Case, Laws, Op, Samples, Tensor, register
from graphc.ops.cast import truncated
from graphc.ops.elementwise import EXACT, ROUNDED, broadcast_shapes, elementwise, kind_of, require
from graphc.ops.precision import NUMERIC, SIGNED, in_float32
from graphc.types import TensorType, may_be

elementwise(
    "Add", "a b", lambda a, b: a + b, np.add, takes=NUMERIC, tolerance=ROUNDED, laws=Laws(neutral=-0.0, commutes=True)
)
elementwise("Sub", "a b", lambda a, b: a - b, np.subtract, takes=NUMERIC, tolerance=ROUNDED, laws=Laws(neutral=0.0))
elementwise(
    "Mul", "a b", lambda a, b: a * b, np.multiply, takes=NUMERIC, tolerance=ROUNDED, laws=Laws(neutral=1, commutes=True)
)
elementwise("Neg", "x", lambda x: -x, np.negative, takes=SIGNED, tolerance=EXACT, laws=Laws(involution=True))
elementwise(
    "Abs",
    "x",
    lambda x: x if kind_of(x) == "u" else e.absolute(x),
    np.absolute,
    takes=NUMERIC,
    tolerance=EXACT,
    laws=Laws(idempotent=True, not_negative=True),
)
elementwise("Reciprocal", "x", lambda x: e.div(1, x), np.reciprocal, tolerance=ROUNDED)
elementwise("Floor", "x", e.floor, np.floor, tolerance=EXACT, laws=Laws(idempotent=True))
elementwise("Ceil", "x", e.ceil, np.ceil, tolerance=EXACT, laws=Laws(idempotent=True))
elementwise("Round", "x", e.rint, np.rint, tolerance=EXACT, laws=Laws(idempotent=True))


def _sign(x):
    if kind_of(x) == "u":
        return e.minimum(x, 1)
    return e.where(x > 0, 1, e.where(x < 0, -1, x + 0))  # NaN stays, -0.0 becomes 0.0


elementwise("Sign", "x", _sign, np.sign, takes=NUMERIC, tolerance=EXACT, laws=Laws(idempotent=True))


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
    "Div",
    "a b",
    e.div,
    _quotient,
    takes=NUMERIC,
    low=(-20, 1),
    high=(20, 7),
    cases=_DIVISORS,
    tolerance=ROUNDED,
    laws=Laws(neutral=1),
)


def _mod(a, b, fmod):
    """Remainder with the sign of the divisor, also where it is zero, or of the dividend with fmod."""
    remainder = e.fmod(a, b)
    if fmod or kind_of(a) == "u":
        return remainder
    size = e.absolute(remainder)
    zero = e.where(b < 0, -size, size)
    return e.where(e.eq(remainder, 0), zero, e.where((remainder < 0) ^ (b < 0), remainder + b, remainder))


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


_POWERS: dict[float, Callable[[Any], Any]] = {
    1: lambda x: x,
    2: lambda x: x * x,
    3: lambda x: x * x * x,
    -1: lambda x: e.div(1, x),
}
_POWERS |= {0.5: lambda x: _root(x), -0.5: lambda x: e.div(1, _root(x))}


def _root(x: e.Expr) -> e.Expr:
    """x to the power of 0.5: as the square root, but for -0.0 and -inf (IEEE 754, 9.2.1)."""
    return e.where(e.eq(x, -math.inf), math.inf, e.sqrt(x + 0.0))


def _pow(x: e.Expr, y: e.Expr) -> e.Expr:
    """Usual constant exponents without pow; whole powers of integers exactly, but for wrapping around."""
    if kind_of(x) != "f":
        return _whole_power(x, y)
    if y.prim == "const" and y.value in _POWERS:
        return _POWERS[y.value](x)
    if y.dtype == x.dtype:
        return e.pow(x, y)
    return e.cast(e.pow(e.cast(x, "float64"), e.cast(y, "float64")), x.dtype)


def _whole_power(x: e.Expr, y: e.Expr) -> e.Expr:
    """An integer to any power. One that is not whole is taken in float64 and cut off."""
    if kind_of(y) == "f":
        if y.prim == "const" and float(y.number).is_integer() and abs(y.number) < 2**63:
            return _whole_power(x, e.const(y.value, "int64"))
        rounded = e.cast(e.pow(e.cast(x, "float64"), e.cast(y, "float64")), x.dtype)
        whole = e.eq(e.trunc(y), y) & (e.absolute(y) < 2.0**63)
        return e.where(whole, _whole_power(x, e.cast(y, "int64")), rounded)
    wide = f"{'i' if kind_of(x) == kind_of(y) == 'i' else 'u'}{max(x.dtype.itemsize, y.dtype.itemsize)}"
    power = e.cast(e.pow(e.cast(x, wide), e.cast(y, wide)), x.dtype)
    if kind_of(x) == "u" and kind_of(y) == "i":
        return e.where(y < 0, e.where(e.eq(x, 1), e.const(1, x.dtype), 0), power)
    return power


def _pow_reference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.broadcast_arrays(x, y)
    if is_float(x.dtype):  # copied: NumPy takes the root where one exponent is meant for all
        wide = x.dtype if x.dtype == y.dtype else np.float64
        return np.power(x.astype(wide), y.astype(wide)).astype(x.dtype)
    return np.array([_integer_power(int(a), b.item(), x.dtype) for a, b in zip(x.flat, y.flat)], x.dtype).reshape(
        x.shape
    )


def _integer_power(x: int, y: int | float, dtype: np.dtype) -> int:
    """In Python's own integers, wrapped around."""
    if y != int(y) if math.isfinite(y) else True:
        return int(truncated(np.power(float(x), y), dtype))
    bits = 8 * dtype.itemsize
    value = pow(x, int(y), 2**bits) if y >= 0 else {1: 1, -1: 1 - 2 * (int(y) % 2)}.get(x, 0)
    value %= 2**bits
    return value - 2**bits if dtype.kind == "i" and value >= 2 ** (bits - 1) else value


register(
    Op(
        "Pow",
        ("x", "y"),
        _infer_pow,
        in_float32(_pow_reference),
        scalar=_pow,
        samples=Samples(
            ("float32", "float64", "int32", "int64"),
            low=(0.1, -2),
            high=(3, 2),
            cases=(
                Case((Tensor((2, 3), -3, 3), Tensor((), 2, 2, "int64"))),
                Case((Tensor((2, 3), -3, 3, "float32"), Tensor((2, 1), -3, 3, "int32"))),
                Case((Tensor((2, 3), 0, 9, "int32"), Tensor((3,), 0, 3, "float32"))),
            ),
        ),
        laws=Laws(neutral=1),
    )
)


# --- any number of operands -------------------------------------------------------------------------------------------
def _total(*xs):
    return reduce(lambda a, b: a + b, xs)


def _mean(*xs):
    return _total(*xs) * (1 / len(xs))


# the range leans to one side, so that sums do not cancel
elementwise("Sum", "x *xs", _total, lambda *xs: reduce(np.add, xs), low=-1)
elementwise("Mean", "x *xs", _mean, lambda *xs: reduce(np.add, xs) / len(xs), low=-1)


def _last_of_equals(extreme: Callable) -> Callable:
    """The extreme of several; of zeros that differ in sign the last. (The primitives give the first of equal numbers.)"""

    def fold(a, b):
        sign_matters = not (isinstance(b, e.Expr) and b.prim == "const" and b.value != 0)
        return extreme(b, a) if sign_matters else extreme(a, b)

    return lambda *xs: reduce(fold, xs)


def _extreme_reference(better: Callable) -> Callable:
    """A NaN, or else the better one, of equals the last. (NumPy's own functions leave the sign of zeros open.)"""

    def pick(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where((a != a) | better(a, b), a, b)

    return lambda *xs: reduce(pick, xs)


for _name, _extreme, _better in (("Max", e.maximum, np.greater), ("Min", e.minimum, np.less)):
    elementwise(
        _name,
        "x *xs",
        _last_of_equals(_extreme),
        _extreme_reference(_better),
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
    """Min(high, Max(x, low)): a bound that is NaN makes all of it NaN."""
    x = x if low is None else e.maximum(x, low)
    return x if high is None else e.minimum(x, high)


def _clip_reference(x: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None) -> np.ndarray:
    for bound, beyond in ((low, np.less), (high, np.greater)):
        if bound is not None:
            bound = bound.reshape(())
            x = np.where(beyond(x, bound) | (bound != bound), bound, x)
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

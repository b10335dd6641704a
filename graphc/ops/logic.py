"""Comparisons, boolean and bitwise operators, tests for NaN and infinity, Where."""

from __future__ import annotations

import math

import numpy as np

from graphc import expr as e
from graphc.op import Attr, Call, Case, Laws, Op, Samples, Tensor, register
from graphc.ops.elementwise import EXACT, broadcast_shapes, elementwise, kind_of
from graphc.ops.precision import ANY, BOOL, BOOLEAN, FLOATING, INTEGER, NUMERIC, in_float32
from graphc.types import TensorType, dtype_name

# --- boolean ----------------------------------------------------------------------------------------------------------
elementwise(
    "And",
    "a b",
    lambda a, b: a & b,
    np.logical_and,
    takes=BOOLEAN,
    gives=BOOL,
    tolerance=EXACT,
    laws=Laws(neutral=1, commutes=True),
)
elementwise(
    "Or",
    "a b",
    lambda a, b: a | b,
    np.logical_or,
    takes=BOOLEAN,
    gives=BOOL,
    tolerance=EXACT,
    laws=Laws(neutral=0, commutes=True),
)
elementwise(
    "Xor",
    "a b",
    lambda a, b: a ^ b,
    np.logical_xor,
    takes=BOOLEAN,
    gives=BOOL,
    tolerance=EXACT,
    laws=Laws(neutral=0, commutes=True),
)
elementwise(
    "Not", "x", lambda x: ~x, np.logical_not, takes=BOOLEAN, gives=BOOL, tolerance=EXACT, laws=Laws(involution=True)
)

# --- comparisons: false where an operand is NaN -----------------------------------------------------------------------
elementwise("Equal", "a b", e.eq, np.equal, takes=ANY, gives=BOOL, tolerance=EXACT)
elementwise("Greater", "a b", lambda a, b: a > b, np.greater, takes=NUMERIC, gives=BOOL, tolerance=EXACT)
elementwise("GreaterOrEqual", "a b", lambda a, b: a >= b, np.greater_equal, takes=NUMERIC, gives=BOOL, tolerance=EXACT)
elementwise("Less", "a b", lambda a, b: a < b, np.less, takes=NUMERIC, gives=BOOL, tolerance=EXACT)
elementwise("LessOrEqual", "a b", lambda a, b: a <= b, np.less_equal, takes=NUMERIC, gives=BOOL, tolerance=EXACT)

# --- bitwise ----------------------------------------------------------------------------------------------------------
elementwise("BitwiseAnd", "a b", lambda a, b: a & b, np.bitwise_and, takes=INTEGER, low=-99, high=99, tolerance=EXACT)
elementwise("BitwiseOr", "a b", lambda a, b: a | b, np.bitwise_or, takes=INTEGER, low=-99, high=99, tolerance=EXACT)
elementwise("BitwiseXor", "a b", lambda a, b: a ^ b, np.bitwise_xor, takes=INTEGER, low=-99, high=99, tolerance=EXACT)
elementwise(
    "BitwiseNot",
    "x",
    lambda x: ~x,
    np.bitwise_not,
    takes=INTEGER,
    low=-99,
    high=99,
    tolerance=EXACT,
    laws=Laws(involution=True),
)


def _shift(x: e.Expr, by: e.Expr, direction: str) -> e.Expr:
    """Counts outside 0 … bits-1 shift every bit out; a right shift of a signed number fills with its sign."""
    bits = 8 * x.dtype.itemsize
    inside = (by < bits) if kind_of(by) == "u" else (by >= 0) & (by < bits)
    if direction == "RIGHT" and kind_of(x) == "i":
        return e.shift_right(x, e.where(inside, by, bits - 1))
    shift = e.shift_left if direction == "LEFT" else e.shift_right
    return e.where(inside, shift(x, e.where(inside, by, 0)), 0)


elementwise(
    "BitShift",
    "x by",
    _shift,
    lambda x, by, direction: (np.left_shift if direction == "LEFT" else np.right_shift)(x, by),
    takes=INTEGER,
    attrs={"direction": Attr(str, choices=("LEFT", "RIGHT"))},
    cases=tuple(
        Case((Tensor(a, -99, 99), Tensor(b, -9, 70)), {"direction": d})
        for d in ("LEFT", "RIGHT")
        for a, b in (((3, 5), (5,)), ((4, 1), (1, 6)), ((), ()))
    ),
    tolerance=EXACT,
)


# --- NaN and infinity -------------------------------------------------------------------------------------------------
def _isinf(x: e.Expr, detect_negative: bool, detect_positive: bool) -> e.Expr:
    if detect_negative and detect_positive:
        return e.eq(e.absolute(x), math.inf)
    if detect_negative or detect_positive:
        return e.eq(x, math.inf if detect_positive else -math.inf)
    return e.const(False, BOOL)


def _isinf_reference(x: np.ndarray, detect_negative: bool, detect_positive: bool) -> np.ndarray:
    return np.isinf(x) & np.where(x > 0, detect_positive, detect_negative)


elementwise("IsNaN", "x", e.isnan, np.isnan, gives=BOOL, tolerance=EXACT)
elementwise(
    "IsInf",
    "x",
    _isinf,
    _isinf_reference,
    gives=BOOL,
    takes=FLOATING,
    attrs={"detect_negative": Attr(bool, True), "detect_positive": Attr(bool, True)},
    cases=tuple(
        Case((Tensor((3, 5)),), {"detect_negative": n, "detect_positive": p}) for n, p in ((1, 0), (0, 1), (0, 0))
    ),
    tolerance=EXACT,
)


# --- selection --------------------------------------------------------------------------------------------------------
def _infer_where(call: Call) -> list[TensorType]:
    condition, x, y = (call.type(i) for i in range(3))
    if condition.dtype != BOOL:
        raise call.fail(f"the condition must be bool, not {dtype_name(condition.dtype)}", "insert a Cast to bool")
    if x.dtype != y.dtype:
        raise call.fail("operands differ in dtype", "insert a Cast")
    return [TensorType(x.dtype, broadcast_shapes(call, [condition, x, y]))]


register(
    Op(
        "Where",
        ("condition", "x", "y"),
        _infer_where,
        in_float32(np.where, like=1),
        scalar=e.where,
        tolerance=EXACT,
        samples=Samples(
            ANY.dtypes,
            cases=(
                Case((Tensor((2, 3), dtype="bool"), Tensor((2, 3)), Tensor((2, 3)))),
                Case((Tensor((3, 1), dtype="bool"), Tensor((1, 4)), Tensor(()))),
                Case((Tensor((), dtype="bool"), Tensor((2, 1)), Tensor((1, 2)))),
                Case((Tensor((0,), dtype="bool"), Tensor((2, 1)), Tensor((1,)))),
            ),
            special=(math.nan, math.inf, -math.inf),
        ),
    )
)

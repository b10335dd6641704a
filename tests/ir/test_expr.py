"""Scalar expressions: what they compute on numbers, and the typed trees that they build."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc import expr as e

F32, F64, I32, BOOL = (np.dtype(t) for t in ("float32", "float64", "int32", "bool"))
UNARY = {
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "floor": np.floor, "ceil": np.ceil,
    "rint": np.rint, "trunc": np.trunc, "absolute": np.abs,
}  # fmt: skip
BINARY = {
    "pow": np.power, "minimum": np.minimum, "maximum": np.maximum, "fmod": np.fmod, "div": np.divide, "eq": np.equal,
    "ne": np.not_equal,
}  # fmt: skip
EDGES = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 2.5, -3.0, 30.0, -30.0, 1e3, -1e3, math.inf, -math.inf, math.nan)
ints = st.integers(-(2**31), 2**31 - 1)


def same(a: float, b: float) -> bool:
    return (a != a and b != b) or a == b or math.isclose(a, b, rel_tol=1e-14)


# --- numbers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_numbers_are_ieee(name: str):
    with np.errstate(all="ignore"):
        wrong = [x for x in EDGES if not same(getattr(e, name)(x), float(UNARY[name](np.float64(x))))]
    assert not wrong


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_numbers_are_ieee(name: str):
    pairs = [(a, b) for a in EDGES for b in EDGES if (name, a, b) != ("pow", -math.inf, 0.5)]  # NumPy's is a sqrt
    f, numpy = getattr(e, name), BINARY[name]
    with np.errstate(all="ignore"):
        assert not [(a, b) for a, b in pairs if not same(f(a, b), numpy(np.float64(a), np.float64(b)))]


@pytest.mark.parametrize("x", [-800.0, -1.0, 0.0, 1.0, 800.0])
def test_sigmoid_does_not_overflow(x: float):
    assert e.sigmoid(x) == pytest.approx(float(0.5 * (1 + np.tanh(x / 2))), abs=1e-16)


@given(ints, ints.filter(bool))
@settings(max_examples=50)
def test_integer_division_truncates_toward_zero(a: int, b: int):
    q = e.div(a, b)
    assert abs(q) == abs(a) // abs(b)
    assert q == 0 or (q < 0) == ((a < 0) != (b < 0))


@pytest.mark.parametrize(
    ("x", "dtype", "want"),
    [
        (2.9, "int32", 2),
        (-2.9, "int32", -2),
        (200, "int8", -56),
        (-1, "uint8", 255),
        (2**40 + 5, "int32", 5),
        (math.nan, "bool", True),
        (-0.0, "bool", False),
        (True, "float32", 1.0),
        (0.1, "float32", float(np.float32(0.1))),
        (1e39, "float32", math.inf),
    ],
)
def test_cast_of_numbers(x, dtype: str, want):
    got = e.cast(x, dtype)
    assert got == want
    assert type(got) is type(want)


def test_clamp_and_where_of_numbers():
    assert [e.clamp(x, -1, 2) for x in (-5, 0.5, 7)] == [-1, 0.5, 2]
    assert math.isnan(e.clamp(math.nan, -1, 2))
    assert e.where(True, 1, 2) == 1
    assert e.where(False, 1, 2) == 2


# --- trees ------------------------------------------------------------------------------------------------------------
def body(x, y):
    """Uses every kind of primitive once or more."""
    z = e.where(x < y, x * 2 + y, e.minimum(x, y) / 3) - e.exp(-e.absolute(x))
    z = e.where((x >= y) | e.isnan(y), z, e.maximum(z, 0.25)) + e.sigmoid(y)
    return e.where(~(x > 1) & e.ne(y, 0), z, e.cast(e.cast(e.rint(z), "int32"), "float64"))


@given(st.floats(-50, 50), st.floats(-50, 50))
@settings(max_examples=50)
def test_a_tree_evaluates_to_what_the_body_computes(x: float, y: float):
    tree = body(e.arg(0, F64), e.arg(1, F64))
    z = e.where(x < y, x * 2 + y, e.minimum(x, y) / 3) - e.exp(-abs(x))
    z = e.where(x >= y, z, e.maximum(z, 0.25)) + e.sigmoid(y)
    want = z if x <= 1 and y != 0 else float(int(e.rint(z)))
    assert e.evaluate(tree, [x, y]) == pytest.approx(want, rel=1e-15, abs=1e-300)


@given(st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=25)
def test_substitution_is_composition(x: float, y: float):
    inner = [e.arg(1, F64) * e.arg(0, F64), e.arg(0, F64) - 1]
    composed = e.substitute(body(e.arg(0, F64), e.arg(1, F64)), inner)
    direct = e.evaluate(body(e.arg(0, F64), e.arg(1, F64)), [y * x, x - 1])
    assert e.evaluate(composed, [x, y]) == direct


def test_numbers_take_the_dtype_of_the_other_operand():
    assert (e.arg(0, F32) + 2).args[1] == e.Expr("const", (), F32, 2.0)
    assert (3 - e.arg(0, I32)).args[0] == e.Expr("const", (), I32, 3)
    assert e.where(e.arg(0, BOOL), e.arg(1, F32), 0).dtype == F32
    assert e.where(e.arg(0, BOOL), 1, e.arg(1, I32)).args[1].value == 1


def test_comparisons_are_bool_and_arithmetic_keeps_the_dtype():
    x, y = e.arg(0, F32), e.arg(1, F32)
    assert {t.dtype for t in (x < y, x <= y, x > y, x >= y, e.eq(x, y), e.ne(x, y), e.isnan(x))} == {BOOL}
    assert {t.dtype for t in (x + y, x / y, -x, e.exp(x), e.pow(x, y), e.sigmoid(x), e.clamp(x, 0, 1))} == {F32}


def test_mixed_dtypes_are_refused():
    with pytest.raises(TypeError, match="float32 and int32"):
        e.arg(0, F32) + e.arg(1, I32)


def test_a_body_cannot_branch_on_an_operand():
    with pytest.raises(TypeError, match="use where"):
        bool(e.arg(0, F32) > 0)


def test_a_cast_to_the_same_dtype_is_nothing():
    x = e.arg(0, F32)
    assert e.cast(x, "float32") is x
    assert e.cast(x, "int8") == e.Expr("cast", (x,), np.dtype("int8"))


def test_bits_of_another_dtype():
    bits = e.bitcast(e.arg(0, F32), "int32")
    assert bits.dtype == I32
    assert [e.evaluate(bits, [x]) for x in (1.0, -0.0)] == [0x3F800000, -(2**31)]


def test_what_a_tree_rounds():
    """What only converts, compares and chooses rounds nothing; parts that are shared are looked at once."""
    x = e.arg(0, F32)
    assert e.rounded(e.where(x < 1, e.maximum(x, 0), e.cast(e.arg(1, I32), F32))) == set()
    assert e.rounded(e.cast(e.arg(0, F64) * 2, F32) > 1) == {F64}
    for _ in range(60):
        x = x + x
    assert e.rounded(x) == {F32}


def test_trees_read_as_formulas():
    x = e.arg(0, F32)
    assert str(e.maximum(x * 2, 0) + e.cast(x < 1, F32)) == "(max((x0 * 2.0), 0.0) + float32((x0 < 1.0)))"


def test_equal_trees_are_equal_and_hash_alike():
    a, b = (e.exp(e.arg(0, F32) + 1) for _ in range(2))
    assert a == b
    assert len({a, b}) == 1


@pytest.mark.parametrize(
    "prim", sorted(e.PRIMITIVES - {"cast", "select", "table", "not", "shl", "shr", "and", "or", "xor", "philox"})
)
def test_every_primitive_can_be_evaluated(prim: str):
    arity = 2 if prim in {*e._INFIX, "pow", "min", "max", "fmod"} else 1
    args = tuple(e.arg(i, F64) for i in range(arity))
    value = e.evaluate(e.Expr(prim, args, F64), [0.5, 0.25][:arity])
    assert isinstance(value, (float, bool))

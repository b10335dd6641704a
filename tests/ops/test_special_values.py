"""Zeros of either sign, NaN, infinities and the ends of integers: kernels give what the references give, bit for bit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

import graphc
from graphc.dtypes import is_float
from graphc.graph import Builder
from graphc.interpret import run_graph
from graphc.lower.kernel import Kernel
from graphc.op import all_ops
from graphc.testing import broadcasts

SPECIAL = (0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 0.5, -0.5, 2.5, 3, -6)
ELEMENTWISE = {n: op for n, op in all_ops().items() if op.elementwise and broadcasts(op)}
OF_FLOATS = [n for n, op in ELEMENTWISE.items() if np.dtype(op.samples.dtypes[0]).kind == "f" and op.min_inputs < 3]
OF_INTEGERS = [n for n, op in ELEMENTWISE.items() if "int32" in op.samples.dtypes and op.min_inputs < 3]
INTEGERS = ("int8", "int32", "int64", "uint8", "uint64")
VARIANTS = {"Mod": ({}, {"fmod": True}), "BitShift": ({"direction": "LEFT"}, {"direction": "RIGHT"})}


def compiled_and_reference(name: str, arrays: list[np.ndarray], **attrs) -> tuple[np.ndarray, np.ndarray]:
    b = Builder("special")
    operands = [b.input(f"x{i}", a.dtype, a.shape) for i, a in enumerate(arrays)]
    g = b.build((b.add(name, *operands, **attrs),))
    (want,) = run_graph(g, arrays)
    (got,) = graphc.compile(g, threads=1).run({f"x{i}": a for i, a in enumerate(arrays)}).values()
    return got, want


def pairs(values: np.ndarray, others: np.ndarray | None = None) -> list[np.ndarray]:
    """Every value with every other."""
    others = values if others is None else others
    return [np.repeat(values, len(others)), np.tile(others, len(values))]


def ends(dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    values = (0, 1, -1, 2, 3, 7, -7, 39, 63, 64, info.min, info.max)
    return np.array([v for v in values if info.min <= v <= info.max], dtype)


def bits(x: np.ndarray) -> list[str]:
    """The values as text that tells zeros apart, rounded to what a float16 keeps."""
    return [f"{v:.2e}" for v in x.astype(np.float64).ravel()] if is_float(x.dtype) else x.ravel().tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", OF_FLOATS)
def test_signs_of_zero_nan_and_infinity(name: str, dtype: str):
    values = np.array(SPECIAL, dtype)
    op = ELEMENTWISE[name]
    arrays = pairs(values) if op.min_inputs + op.variadic == 2 else [values]
    for attrs in VARIANTS.get(name, ({},)):
        got, want = compiled_and_reference(name, arrays, **attrs)
        with np.errstate(invalid="ignore"):
            close = np.isclose(got.astype(float), want.astype(float), rtol=1e-2, atol=1e-5, equal_nan=True)
        if is_float(got.dtype):  # 1 + erf(x) of Gelu may cancel to a zero of its own sign
            close &= (np.signbit(got) == np.signbit(want)) | np.isnan(want) | ((want != 0) & (np.abs(want) < 1e-8))
        assert close.all(), [(*(a[i] for a in arrays), want[i], got[i]) for i in np.flatnonzero(~close)]


@pytest.mark.parametrize("name", OF_INTEGERS)
def test_ends_of_integers_and_division_by_zero(name: str):
    op = ELEMENTWISE[name]
    for dtype, attrs in itertools.product(INTEGERS, VARIANTS.get(name, ({},))):
        if dtype not in op.samples.dtypes or (name == "Shrink" and dtype.endswith("64")):  # Shrink computes in float64
            continue
        arrays = pairs(ends(dtype)) if op.min_inputs + op.variadic == 2 else [ends(dtype)]
        got, want = compiled_and_reference(name, arrays, **attrs)
        np.testing.assert_array_equal(got, want, f"{name} of {dtype}")


def test_zero_of_mod_has_the_sign_of_the_divisor():
    """The text of ONNX opset 28; ONNX Runtime 1.32 agrees."""
    x, by = np.array([[-6, 6, -0.0, 0.0, 7.5]] * 2, "float32"), np.array([[3], [-3]], "float32")
    for dtype in ("float32", "float64", "float16"):
        got, want = compiled_and_reference("Mod", [x.astype(dtype), by.astype(dtype)])
        assert bits(got) == bits(want) == bits(np.array([0, 0, 0, 0, 1.5, -0.0, -0.0, -0.0, -0.0, -1.5]))


def test_the_last_of_two_zeros_is_the_extreme():
    """As ONNX Runtime 1.32 and NumPy with vectors have it. A constant zero must not change that."""
    x, zero = np.array([0.0, -0.0] * 20, "float32"), np.array([-0.0, 0.0] * 20, "float32")
    for name in ("Max", "Min"):
        got, want = compiled_and_reference(name, [x, zero])
        assert bits(got) == bits(want) == bits(zero)
        b = Builder("constant")
        g = b.build((b.add(name, b.input("x", x.dtype, x.shape), b.constant(0.0, "float32")),))
        assert bits(graphc.compile(g, threads=1)(x)) == bits(np.zeros(40))


@pytest.mark.parametrize("low, high", [(np.nan, None), (None, np.nan), (-1, np.nan), (np.nan, 1), (2, -2)])
@pytest.mark.parametrize("constant", [True, False])
def test_clip_is_min_of_max(low: float | None, high: float | None, constant: bool):
    """'Equivalent to Min(max, Max(input, min))', and Max and Min keep NaN."""
    x = np.array(SPECIAL, "float32")
    want = x if low is None else np.maximum(x, low)
    want = want if high is None else np.minimum(want, high)
    b = Builder("clip")
    feeds, operands = {"x": x}, [b.input("x", x.dtype, x.shape)]
    for name, bound in (("low", low), ("high", high)):
        if bound is None:
            operands.append(None)
        elif constant:
            operands.append(b.constant(bound, "float32"))
        else:
            operands.append(b.input(name, "float32", ()))
            feeds[name] = np.array(bound, "float32")
    g = b.build((b.add("Clip", *operands),))
    for target in ("cpu", "reference"):
        (got,) = graphc.compile(g, target=target).run(feeds).values()
        np.testing.assert_array_equal(got, want.astype("float32"), target)


# --- powers -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("exponent", ["int32", "int64", "uint8", "float32", "float64"])
@pytest.mark.parametrize("base", ["int8", "int32", "int64", "uint32", "uint64"])
def test_whole_powers_of_integers_are_exact(base: str, exponent: str):
    powers = np.array([0, 1, 2, 5, 13, 19, 22, 31, 39, 62, 63, *([] if exponent[0] == "u" else [-1, -2, -3])], exponent)
    numbers = np.array([0, 1, 2, 3, 7, 10, *([] if base[0] == "u" else [-1, -2, -3])], base)
    arrays = pairs(numbers, powers)
    modulus = 2 ** (8 * np.dtype(base).itemsize)

    def exact(x: int, y: int) -> int:
        return pow(x, y, modulus) if y >= 0 else {1: 1, -1: 1 - 2 * (y % 2)}.get(x, 0) % modulus

    want = np.array([exact(int(x), int(y)) for x, y in zip(*arrays)], np.uint64).astype(base)
    for result in compiled_and_reference("Pow", arrays):
        np.testing.assert_array_equal(result, want)
    for power in (2, 3, 39):
        b = Builder("constant")
        y = b.add("Pow", b.input("x", base, numbers.shape), b.constant(power, exponent))
        want = np.array([exact(int(x), power) for x in numbers], np.uint64).astype(base)
        np.testing.assert_array_equal(graphc.compile(b.build((y,)), threads=1)(numbers), want)


@pytest.mark.parametrize("power", [0.5, -0.5, -1, 1, 2, 3])
def test_constant_powers_are_powers_of_zeros_and_infinities(power: float):
    x = np.array([*SPECIAL, -4, 4], "float32")
    b = Builder("power")
    g = b.build((b.add("Pow", b.input("x", "float32", x.shape), b.constant(power, "float32")),))
    with np.errstate(all="ignore"):
        want = np.power(x, np.full(x.shape, power, "float32"))
    for target in ("cpu", "reference"):
        assert bits(graphc.compile(g, target=target)(x)) == bits(want), target


def test_an_exponent_of_another_dtype_is_not_rounded():
    x, power = np.array([1.0000001], "float32"), np.array([2**24 + 1], "int32")
    got, want = compiled_and_reference("Pow", [x, power])
    assert got == want == np.float32(float(x[0]) ** int(power[0]))


# --- constants that are equal as numbers ------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_constants_that_differ_in_sign_alone(dtype: str):
    x = np.array([1, -1] * 20, dtype)
    b = Builder("zeros")
    v = b.input("x", dtype, x.shape)
    zeros = [b.constant(z, dtype) for z in (0.0, -0.0)]
    quotients = [b.add("Div", v, z) for z in zeros]
    chosen = [b.add("Reciprocal", b.add("Where", b.constant([True, False] * 20), v, z)) for z in zeros]
    larger = [b.add("Reciprocal", b.add("Max", b.add("Neg", b.add("Abs", v)), z)) for z in zeros]
    g = b.build((*quotients, *chosen, *larger))
    for target in ("cpu", "reference"):
        got = list(graphc.compile(g, target=target).run({"x": x}).values())
        for plus, minus in zip(got[::2], got[1::2]):
            infinite = np.isinf(plus)
            assert infinite.any()
            np.testing.assert_array_equal(plus[infinite], -minus[infinite])


@dataclass(frozen=True, eq=False)
class Some(Kernel, name="some"):
    value: object


@dataclass(frozen=True, eq=False)
class Usual(Kernel, name="usual"):
    value: object = 0.0


def test_kernels_are_told_apart_by_their_text():
    assert Usual().spec == "Kernel(name='usual', params=())"
    assert len({Usual(), Usual(0.0), Usual(-0.0), Usual(0), Usual(False)}) == 4
    assert len({Some(v) for v in (0.0, -0.0, 0, False, 1, True, 1.0)}) == 7
    assert Some(float("nan")) == Some(float("nan")) != Some(float("inf"))
    assert Some((2.0,)) == Some((2.0,))
    assert Some(1.0).spec == "Kernel(name='some', params=(1.0,))"


@pytest.mark.parametrize("given", [{}, {"alpha": 0.01}])
@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_a_float_attribute_is_a_float32_in_float64_too(given: dict, target: str):
    """ONNX stores it so, and ONNX Runtime multiplies by it: 0.01 is 0.00999999977648…"""
    b = Builder("alpha")
    g = b.build((b.add("LeakyRelu", b.input("x", "float64", (3,)), **given),))
    y = graphc.compile(g, target=target)(np.array([-1.0, -3.0, 2.0]))
    np.testing.assert_array_equal(y, [-float(np.float32(0.01)), -3 * float(np.float32(0.01)), 2.0])

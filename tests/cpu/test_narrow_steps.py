"""float16 and bfloat16 are computed in float32, but a step (a cast, a comparison, a rounding) sees a number of its dtype."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

import graphc
from graphc.graph import Builder, Value

TARGETS = ("cpu", "cpu:portable")
NARROW = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}

STEPS: dict[str, Callable[[Builder, Value, Value], Value]] = {
    "cast to float32": lambda b, x, y: b.add("Cast", b.add("Div", x, y), to="float32"),
    "cast to an integer": lambda b, x, y: b.add("Cast", b.add("Mul", x, y), to="int32"),
    "floor": lambda b, x, y: b.add("Floor", b.add("Div", x, y)),
    "ceil": lambda b, x, y: b.add("Ceil", b.add("Mul", x, y)),
    "round": lambda b, x, y: b.add("Round", b.add("Div", x, y)),
    "a sum that changes nothing": lambda b, x, y: b.add("Equal", b.add("Add", x, b.add("Mul", y, y)), x),
    "less": lambda b, x, y: b.add("Less", b.add("Mul", x, y), b.add("Mul", x, b.constant(1.1, x.dtype))),
    "through a choice": lambda b, x, y: b.add(
        "Cast", b.add("Where", b.add("Less", x, y), b.add("Div", x, y), b.add("Mul", x, y)), to="float32"
    ),
    "through signs": lambda b, x, y: b.add("Floor", b.add("Neg", b.add("Abs", b.add("Div", x, y)))),
}


def operands(dtype: str, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(-99, 99, n).astype(NARROW[dtype]), rng.uniform(0.05, 3, n).astype(NARROW[dtype])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_sees_rounded_numbers(step: str, dtype: str, target: str):
    x, y = operands(dtype)
    b = Builder("step")
    g = b.build((STEPS[step](b, b.input("x", x.dtype, x.shape), b.input("y", y.dtype, y.shape)),))
    (want,) = graphc.compile(g, target="reference").run({"x": x, "y": y}).values()
    (got,) = graphc.compile(g, target=target).run({"x": x, "y": y}).values()
    np.testing.assert_array_equal(got.astype(float), want.astype(float))


@pytest.mark.parametrize("to", ["int16", "uint8"])
@pytest.mark.parametrize(
    "x_dtype, scale_dtype, precision, divided",
    [
        ("float16", "float16", None, np.float16),
        ("bfloat16", "bfloat16", None, ml_dtypes.bfloat16),
        ("float32", "float16", None, np.float16),
        ("float16", "float32", None, np.float32),
        ("float32", "float32", "float16", np.float16),
        ("float32", "float32", "bfloat16", ml_dtypes.bfloat16),
        ("float16", "float16", "float32", np.float32),
        ("int32", "float16", None, np.float16),
        ("float32", "float32", None, np.float32),
    ],
)
@pytest.mark.parametrize("granularity", ["tensor", "axis", "blocks"])
def test_quantization_divides_in_the_scales_type_or_in_precision(
    x_dtype: str, scale_dtype: str, precision: str | None, divided: type, to: str, granularity: str
):
    rng = np.random.default_rng(1)
    shape = (6, 40)
    x = rng.uniform(-3000, 3000, shape).astype(NARROW.get(x_dtype, x_dtype))
    scales = {"tensor": (), "axis": (6,), "blocks": (3, 40)}[granularity]
    scale = rng.uniform(0.05, 0.3, scales).astype(NARROW.get(scale_dtype, scale_dtype))
    zero = rng.integers(0, 9, scales).astype(to)
    wide = {"tensor": lambda s: s, "axis": lambda s: s[:, None], "blocks": lambda s: np.repeat(s, 2, 0)}[granularity]
    quotient = x.astype(divided) / wide(scale).astype(divided)
    assert quotient.dtype == divided
    info = np.iinfo(to)
    want = np.clip(np.rint(quotient.astype(np.float64)) + wide(zero), info.min, info.max)
    b = Builder("quantize")
    attrs = {"axis": 0, "precision": precision, "block_size": 2 if granularity == "blocks" else 0}
    operands = b.input("x", x.dtype, shape), b.input("s", scale.dtype, scales), b.input("z", to, scales)
    g = b.build((b.add("QuantizeLinear", *operands, **attrs),))
    for target in ("cpu", "reference"):
        (got,) = graphc.compile(g, target=target).run({"x": x, "s": scale, "z": zero}).values()
        assert got.dtype == to
        np.testing.assert_array_equal(got, want)

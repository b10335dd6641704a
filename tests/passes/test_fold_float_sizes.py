"""Sizes that exporters compute with floats: no part of the graph waits for data, and one plan is for many of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from many import agree, images

from graphc.graph import Builder, Value
from graphc.ops.resize import floor_of_many
from graphc.sizes import Trace, number_of

F32 = np.float32
FEEDS = [{"x": np.ones((h, w), F32)} for h, w in ((5, 7), (9, 4), (12, 12), (30, 17), (6, 8))]


def width(b: Builder, dtype: str = "float32") -> Value:
    shape = b.add("Shape", b.input("x", F32, ("h", "w")))
    return b.add("Cast", b.add("Gather", shape, b.constant(1)), to=np.dtype(dtype))


ARITHMETIC: dict[str, Callable[[Builder, Value, Callable[[float], Value]], Value]] = {
    "half": lambda b, x, c: b.add("Floor", b.add("Mul", x, c(0.5))),
    "twice": lambda b, x, c: b.add("Mul", x, c(2)),
    "three halves": lambda b, x, c: b.add("Floor", b.add("Mul", x, c(1.5))),
    "0.7": lambda b, x, c: b.add("Floor", b.add("Mul", x, c(0.7))),
    "up to a multiple": lambda b, x, c: b.add("Mul", b.add("Ceil", b.add("Div", x, c(7))), c(7)),
    "third": lambda b, x, c: b.add("Div", x, c(3)),
    "below zero": lambda b, x, c: b.add("Neg", b.add("Div", b.add("Sub", c(1), x), c(2))),
    "quarters": lambda b, x, c: b.add("Ceil", b.add("Add", b.add("Mul", x, c(0.25)), c(0.5))),
    "rounded": lambda b, x, c: b.add("Round", b.add("Add", x, c(3))),
}


@pytest.mark.parametrize("to", ["int32", "int64"])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_whole_numbers_of_floats(name: str, to: str):
    b = Builder("floats")
    end = b.add("Cast", ARITHMETIC[name](b, width(b), lambda v: b.constant(v, F32)), to=np.dtype(to))
    zero, one = b.constant(0, to), b.constant(1, to)
    counted = b.add("Range", zero, end, one)
    agree(b.build({"y": b.add("Neg", counted), "end": b.add("Neg", end)}), FEEDS, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_range_of_floats(dtype: str):
    b = Builder("range")
    end = b.add("Sub", b.add("Mul", width(b, dtype), b.constant(2, dtype)), b.constant(1, dtype))
    agree(b.build({"y": b.add("Range", b.constant(1, dtype), end, b.constant(3, dtype))}), FEEDS, 1)


def test_sizes_as_data():
    b = Builder("data")
    x = b.input("x", F32, ("h", "w"))
    shape = b.add("Shape", x)
    narrow = b.add("Cast", shape, to=np.dtype("int32"))
    agree(b.build({"y": b.add("Cast", shape, to=np.dtype(F32)), "z": b.add("Neg", narrow), "n": narrow}), FEEDS, 1)


@pytest.mark.parametrize("factor", [2, 0.5, 1.5, 0.7])
def test_target_of_a_resize(factor: float):
    b = Builder("resize")
    x = b.input("x", F32, (1, 3, "h", "w"))
    scaled = b.add("Mul", b.add("Cast", b.add("Shape", x, start=2), to=np.dtype(F32)), b.constant(factor, F32))
    to = b.add("Cast", b.add("Floor", scaled), to=np.dtype("int64"))
    sizes = b.add("Concat", b.add("Shape", x, end=2), to, axis=0)
    agree(
        b.build({"y": b.add("Resize", x, None, None, sizes, mode="linear")}),
        images(np.random.default_rng(0), 5, 3, 2),
        3,
    )


@pytest.mark.parametrize("scale", [1.5, 0.7, 0.3, 1.1, 0.123, 3.3])
def test_scaled_sizes_are_those_of_float32(scale: float):
    trace = Trace()
    trace.begin()
    scaled = floor_of_many(trace.size("n", 10), scale)
    trace.close()
    most = int(trace.ranges["n"][1])
    n = np.arange(2, most + 1)
    want = np.floor(n.astype(F32) * F32(scale)).astype(int)
    assert most > 1000 and [number_of(scaled.expr, {"n": int(k)}) for k in n[::97]] == want[::97].tolist()

"""Casts on every instruction set: every float16 there is, ties, and numbers on both sides of what an integer holds."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.graph import Builder
from graphc.ops.cast import truncated

TARGETS = ("cpu:avx512", "cpu:avx2", "cpu:portable")


def cast(x: np.ndarray, to: str, target: str) -> np.ndarray:
    require(target)
    b = Builder("cast")
    graph = b.build({"y": b.add("Cast", b.input("x", x.dtype, x.shape), to=to)})
    return graphc.compile(graph, target=target).run({"x": x})["y"]


def same_bits(a: np.ndarray, b: np.ndarray) -> None:
    """The same numbers, with the signs of zeros; NaN where there is NaN."""
    numbers = ~np.isnan(b)
    np.testing.assert_array_equal(np.isnan(a), ~numbers)
    word = f"u{a.dtype.itemsize}"
    np.testing.assert_array_equal(a[numbers].view(word), b[numbers].view(word))


@pytest.mark.parametrize("target", TARGETS)
def test_every_float16_widens(target: str):
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    same_bits(cast(x, "float32", target), x.astype(np.float32))


@pytest.mark.parametrize("target", TARGETS)
def test_float32_narrows_to_the_nearest_float16(target: str):
    rng = np.random.default_rng(0)
    half = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    ties = ((half[:-1] + half[1:]) / 2).astype(np.float32)
    beside = np.concatenate([np.nextafter(ties, np.float32(side)) for side in (0, np.inf)])
    anything = rng.integers(0, 2**32, 20000, np.uint32).view(np.float32)
    edges = np.array([65504, 65519.99, 65520, 65536, 1e30, np.inf, np.nan, 0, 2.0**-25, 2.0**-26, 1e-40], np.float32)
    x = np.concatenate([ties, beside, anything, edges])
    x = np.concatenate([x, -x])
    with np.errstate(all="ignore"):
        same_bits(cast(x, "float16", target), x.astype(np.float16))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_negative_floats_wrap_in_unsigned_integers(dtype: str, target: str):
    """As ONNX Runtime and the reference have it; ONNX leaves it open."""
    x = np.array([-1, -2.5, -0.5, 0, 1, 255, 3e4, -7, -3e4, 2.0**15.5], dtype)
    for to in ("uint64", "uint32", "uint16", "uint8"):
        np.testing.assert_array_equal(cast(x, to, target), x.astype(np.int64).astype(to))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("number", [0.5, 2.0**31 - 128, -(2.0**31), 2.0**31, -3e9, 2.0**63, np.nan])
def test_one_number_among_small_ones(number: float, target: str):
    """Vectors of numbers that int32 holds are cast another way than those with another among them."""
    x = np.linspace(-300, 300, 200, dtype=np.float32)
    x[77] = number
    for name in ("int8", "uint8", "int16", "int32", "uint32", "int64"):
        np.testing.assert_array_equal(cast(x, name, target), truncated(x, np.dtype(name)))


@pytest.mark.parametrize("target", TARGETS)
def test_large_floats_fit_uint64(target: str):
    x = np.array([2.0**63, 2.0**64 - 4096, 2.0**63 - 2048, 1e18, -(2.0**62)])
    want = np.array([2**63, 2**64 - 4096, 2**63 - 2048, 10**18, 2**64 - 2**62], np.uint64)
    np.testing.assert_array_equal(cast(x, "uint64", target), want)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_floats_that_integers_can_not_hold(target: str, dtype: str):
    """ONNX leaves them open: all targets agree with the reference."""
    ends = [s * 2.0**k for k in (7, 8, 15, 16, 31, 32, 52, 62, 63, 64, 70) for s in (1, -1)]
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.5, 1.5, -1.5, 300.7, *ends, *(0.75 * e for e in ends)])
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    integers = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    want = {name: truncated(x, np.dtype(name)) for name in integers}
    for name in integers:
        np.testing.assert_array_equal(cast(x, name, target), want[name])
        np.testing.assert_array_equal(cast(x, name, "reference"), want[name])
    wide = np.float64(x)
    for name in ("int64", "int32"):
        fits = np.abs(wide) < 2.0 ** (np.iinfo(name).bits - 1)
        np.testing.assert_array_equal(want[name][fits], np.trunc(wide[fits]).astype(name))
    assert want["int32"][0] == 0 and want["int64"][1] == np.iinfo(np.int64).max

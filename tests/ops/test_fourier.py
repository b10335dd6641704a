"""Transforms by products of matrices against NumPy's: every way that lengths take, and their errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc
from graphc.graph import Builder
from graphc.ops._fourier import LARGEST, RADIX, largest_prime, smooth

# one product; two and three rounds of products; a large prime in one product; a convolution, alone and within a round
LENGTHS = (1, 2, 7, RADIX, RADIX + 1, 400, 512, 1000, 4096, 251, 2 * 251, 257, 1009)


def dft(x: np.ndarray, target: str = "cpu", axis: int = -2, length: int | None = None, **attrs: bool) -> np.ndarray:
    b = Builder("dft")
    n = None if length is None else b.constant(length, "int64")
    g = b.build({"y": b.add("DFT", b.input("x", x.dtype, x.shape), n, b.constant(axis, "int64"), **attrs)})
    return graphc.compile(g, target=target).run({"x": x})["y"]


def signals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def agrees(got: np.ndarray, want: np.ndarray) -> None:
    """Errors of float32 sums grow with the root of the rounds; 2e-6 of the largest number is more than was ever seen."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * max(np.abs(want).max(), 1e-30))


def pairs(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], -1)


@pytest.mark.sample(5)
@pytest.mark.parametrize("n", LENGTHS)
def test_every_form(n: int):
    x, z = signals(3, n, 1), signals(3, n, 2, seed=1)
    complex_ = z[..., 0] + 1j * z[..., 1]
    agrees(dft(x), pairs(np.fft.fft(x[..., 0].astype(np.float64))))
    agrees(dft(x, onesided=True), pairs(np.fft.rfft(x[..., 0].astype(np.float64))))
    agrees(dft(z), pairs(np.fft.fft(complex_)))
    agrees(dft(z, inverse=True), pairs(np.fft.ifft(complex_)))
    agrees(dft(z, inverse=True, onesided=True, length=n), np.fft.irfft(complex_, n)[..., None])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 400), st.booleans(), st.booleans(), st.integers(0, 2))
def test_any_length_of_any_axis(n: int, given_: int, onesided: bool, inverse: bool, axis: int):
    parts = 2 if inverse else 1
    x = np.moveaxis(signals(2, 1, given_, parts), 2, axis)
    want = dft(x.astype(np.float64), "reference", axis, n, onesided=onesided, inverse=inverse)
    agrees(dft(x, "cpu", axis, n, onesided=onesided, inverse=inverse), want)


def test_there_and_back():
    x = signals(2, 1009, 2)
    np.testing.assert_allclose(dft(dft(x), inverse=True), x, atol=1e-5)  # two convolutions


@given(st.integers(2, 5000))
def test_largest_prime(n: int):
    p = largest_prime(n)
    assert (
        n % p == 0
        and all(p % d for d in range(2, p))
        and all(n % q for q in range(p + 1, n + 1) if largest_prime(q) == q)
    )


def test_smooth_lengths():
    assert [smooth(n) for n in (1, 7, 257, 1009)] == [1, 8, 270, 1024] and LARGEST > RADIX

"""Discrete Fourier transforms in terms of products of matrices.

A transform of length p q is q transforms of length p, a rotation of each number, and p transforms of length q (Cooley, Tukey, An
algorithm for the machine calculation of complex Fourier series, 1965). Short ones are products with a matrix, which kernels
compute for all of a batch at once, so radices are as large as 64. A length with a large prime is a convolution, and that two
transforms of a length without (Bluestein, 1970). Angles are fractions of a turn in whole numbers, so that they are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from graphc.graph import Builder, Value

RADIX = 64  # a transform of at most this length is one product
LARGEST = 256  # and of a prime length, up to this
PAIRS, PLANES, REAL = "pairs", "planes", "real"  # [length, 2], [2, length], [length]


@dataclass(frozen=True)
class Transform:
    """Of `length` numbers to the first `wanted` of the result. sign: of the exponent. scale: of the result."""

    length: int
    sign: int
    wanted: int
    scale: float = 1.0

    def roots(self, rows: int, columns: int, turn: int) -> np.ndarray:
        """exp(sign 2πi jk / turn) of [rows, columns]."""
        return self._turns(np.arange(rows)[:, None] * np.arange(columns) % turn, turn)

    def _turns(self, numerators: np.ndarray, turn: int) -> np.ndarray:
        return np.exp(self.sign * 2j * np.pi * (numerators / turn))

    def chirp(self, count: int) -> np.ndarray:
        """exp(sign πi j² / length)."""
        return self._turns(np.arange(count) ** 2 % (2 * self.length), 2 * self.length)


def largest_prime(n: int) -> int:
    """The largest prime that divides n; 1 of 1."""
    largest, p = 1, 2
    while p * p <= n:
        while n % p == 0:
            largest, n = p, n // p
        p += 1
    return max(largest, n)


def smooth(least: int) -> int:
    """The smallest number from `least` on that has no prime above 5."""
    found = 1 << max(least - 1, 0).bit_length()
    threes = 1
    while threes < found:
        odd = threes
        while odd < found:
            found = min(found, odd << (max(-(-least // odd), 1) - 1).bit_length())
            odd *= 5
        threes *= 3
    return found


def _radix(n: int) -> int:
    """The divisor of n nearest to its root, or the largest one that is no larger than RADIX."""
    divisors = [p for p in range(2, min(n, RADIX + 1)) if n % p == 0]
    return min(divisors, key=lambda p: abs(math.log(p * p / n)))


def transform(b: Builder, x: Value, batch: int, form: str, t: Transform, to: str) -> Value:
    """[batch, …] in form `to` of x [batch, …] in its `form`."""
    n = t.length
    if n <= RADIX or (largest_prime(n) == n and n <= LARGEST):
        return _product(b, x, batch, form, t.roots(n, t.wanted, n) * t.scale, to)
    if largest_prime(n) > LARGEST:
        return _convolved(b, x, batch, form, t, to)
    p = _radix(n)
    q, parts = n // p, 1 if form == REAL else 2
    if form == PAIRS:
        x = _permuted(b, x, (batch, p, q, 2), (0, 2, 1, 3))
    else:
        x = _permuted(b, x, (batch, parts, p, q), (0, 3, 1, 2))
    x = _product(b, x, batch * q, form, t.roots(p, p, p), PLANES)
    x = _rotated(b, _reshaped(b, x, batch, q, 2, p), t.roots(q, p, n))
    x = b.add("Transpose", x, perm=(0, 3, 2, 1))
    per_row = -(-t.wanted // p)
    x = transform(b, x, batch * p, PLANES, replace(t, length=q, wanted=per_row), to)
    return _first(b, _interleaved(b, x, batch, p, per_row, to), t.wanted, per_row * p, to)


def _interleaved(b: Builder, x: Value, batch: int, p: int, count: int, form: str) -> Value:
    """Number k1 + p k2 of the result is number k2 of row k1."""
    if form == PAIRS:
        return _reshaped(b, _permuted(b, x, (batch, p, count, 2), (0, 2, 1, 3)), batch, count * p, 2)
    if form == PLANES:
        return _reshaped(b, _permuted(b, x, (batch, p, 2, count), (0, 2, 3, 1)), batch, 2, count * p)
    return _reshaped(b, _permuted(b, x, (batch, p, count), (0, 2, 1)), batch, count * p)


def _convolved(b: Builder, x: Value, batch: int, form: str, t: Transform, to: str) -> Value:
    """jk is (j² + k² - (k - j)²) / 2: rotate, convolve with a rotation, rotate."""
    n, wanted = t.length, t.wanted
    m = smooth(n + wanted - 1)
    chirp = t.chirp(max(n, wanted))
    planes = {
        PAIRS: lambda: _permuted(b, x, (batch, n, 2), (0, 2, 1)),
        PLANES: lambda: _reshaped(b, x, batch, 2, n),
        REAL: lambda: _reshaped(b, x, batch, 1, n),
    }[form]()
    filter_ = np.zeros(m, complex)
    filter_[:wanted] = chirp[:wanted].conj()
    filter_[m - n + 1 :] = chirp[1:n][::-1].conj()
    y = b.add("Pad", _rotated(b, planes, chirp[:n]), b.constant([0, 0, 0, 0, 0, m - n], np.int64))
    y = transform(b, y, batch, PLANES, Transform(m, -1, m), PLANES)
    y = _rotated(b, y, np.fft.fft(filter_))
    y = transform(b, y, batch, PLANES, Transform(m, 1, wanted, 1 / m), PLANES)
    y = _rotated(b, y, chirp[:wanted] * t.scale)
    if to == PLANES:
        return y
    return (
        _permuted(b, y, (batch, 2, wanted), (0, 2, 1)) if to == PAIRS else _reshaped(b, _part(b, y, 0), batch, wanted)
    )


def _product(b: Builder, x: Value, rows: int, form: str, matrix: np.ndarray, to: str) -> Value:
    """x times a complex matrix [from, to]."""
    n, count = matrix.shape
    blocks = np.array([[matrix.real, matrix.imag], [-matrix.imag, matrix.real]])  # [part, part, from, to]
    if form == REAL:
        blocks = blocks[:1]
    if to == REAL:
        blocks = blocks[:, :1]
    left = (2, 0) if form == PAIRS else (0, 2)
    right = (3, 1) if to == PAIRS else (1, 3)
    whole = blocks.transpose(*left, *right).reshape(n * len(blocks), -1)
    y = b.add("MatMul", _reshaped(b, x, rows, len(whole)), b.constant(np.ascontiguousarray(whole), x.dtype))
    shape = {PAIRS: (count, 2), PLANES: (2, count), REAL: (count,)}[to]
    return _reshaped(b, y, rows, *shape)


def _rotated(b: Builder, x: Value, by: np.ndarray) -> Value:
    """Planes [batch, …, 1 or 2, n] of x times complex numbers [n], or [rows, n]."""
    real, imaginary = (b.constant(np.ascontiguousarray(part)[..., None, :], x.dtype) for part in (by.real, by.imag))
    if x.shape[-2] == 1:
        parts = [b.add("Mul", x, real), b.add("Mul", x, imaginary)]
    else:
        re, im = _part(b, x, 0), _part(b, x, 1)
        parts = [
            b.add("Sub", b.add("Mul", re, real), b.add("Mul", im, imaginary)),
            b.add("Add", b.add("Mul", re, imaginary), b.add("Mul", im, real)),
        ]
    return b.add("Concat", *parts, axis=-2)


def _part(b: Builder, x: Value, i: int) -> Value:
    """The real or imaginary plane."""
    return b.add("Slice", x, *(b.constant([k], np.int64) for k in (i, i + 1, -2)))


def _first(b: Builder, x: Value, wanted: int, count: int, form: str) -> Value:
    if wanted == count:
        return x
    return b.add("Slice", x, *(b.constant([k], np.int64) for k in (0, wanted, -2 if form == PAIRS else -1)))


def _permuted(b: Builder, x: Value, shape: tuple[int, ...], perm: tuple[int, ...]) -> Value:
    return b.add("Transpose", _reshaped(b, x, *shape), perm=perm)


def _reshaped(b: Builder, x: Value, *shape: int) -> Value:
    return x if x.shape == shape else b.add("Reshape", x, b.constant(shape, np.int64), allowzero=True)

"""The taps of one resampled axis: which elements make each element of the result, and their weights.

Positions are exact fractions; only weights are rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from graphc.ops.precision import FLOAT32

TRANSFORMS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)


class Taps(NamedTuple):
    """How one axis is resized. The result is the extrapolation value where `outside` holds."""

    indices: np.ndarray  # int64 [out, taps], each within the axis
    weights: np.ndarray  # float64 [out, taps], each row adds up to 1
    outside: np.ndarray  # bool [out]

    def is_identity(self, size: int) -> bool:
        """Does an axis of that size stay as it is?"""
        n, taps = self.indices.shape
        return n == size and taps == 1 and np.array_equal(self.indices[:, 0], np.arange(n)) and not self.outside.any()


class AxisScale(NamedTuple):
    """One axis of a Resize: sizes, the scale that maps positions, and the part of the axis that is resized."""

    size: int
    out: int
    scale: Fraction
    start: Fraction = Fraction(0)
    end: Fraction = Fraction(1)


def simplest_fraction(value: float, dtype: np.dtype = FLOAT32) -> Fraction:
    """The fraction with the smallest denominator that rounds to that number: 7/10 for the float32 nearest to it.

    A scale of 0.7 is meant as 7/10, not as the 11744051/2**24 that a float32 keeps of it.
    """
    given = dtype.type(value)
    below, above = (np.nextafter(given, dtype.type(to)) for to in (-np.inf, np.inf))
    middle = Fraction(float(given))
    return _simplest((middle + Fraction(float(below))) / 2, (middle + Fraction(float(above))) / 2)


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction with the smallest denominator within [low, high] (Stern-Brocot)."""
    whole = math.ceil(low)
    if whole <= high:
        return Fraction(min(max(0, whole), math.floor(high)))
    whole -= 1
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))


class Positions(NamedTuple):
    """Positions in the input of each output element, exactly: numerators over one denominator, in Python's integers."""

    numerators: np.ndarray  # object [out]
    denominator: int

    def floor(self, plus: Fraction = Fraction(0)) -> np.ndarray:
        """int64 [out]: floor(position + plus)."""
        n, d = plus.numerator, plus.denominator
        return ((self.numerators * d + n * self.denominator) // (self.denominator * d)).astype(np.int64)

    @property
    def opposite(self) -> Positions:
        """-position: what is rounded down there is rounded up here."""
        return Positions(-self.numerators, self.denominator)

    def minus(self, indices: np.ndarray) -> np.ndarray:
        """float64 [out, taps]: position - index, rounded once."""
        return ((self.numerators[:, None] - indices * self.denominator) / self.denominator).astype(np.float64)


def source_positions(axis: AxisScale, transform: str) -> Positions:
    """Where ONNX Resize reads each output element: position i·step + first.

    Exact, so that what falls on a whole number or half way between two does so whatever the sizes.
    """
    size, out, half = Fraction(axis.size), axis.out, Fraction(1, 2)
    step = 1 / axis.scale
    first = half * step - half
    match transform:
        case "asymmetric":
            first = Fraction(0)
        case "align_corners":
            step, first = (size - 1) / (out - 1) if out > 1 else Fraction(0), Fraction(0)
        case "tf_crop_and_resize":
            span = (axis.end - axis.start) * (size - 1)
            first = axis.start * (size - 1) if out > 1 else half * (axis.start + axis.end) * (size - 1)
            step = span / (out - 1) if out > 1 else Fraction(0)
        case "pytorch_half_pixel" if out == 1:
            step = first = Fraction(0)
        case "half_pixel_symmetric":
            first += (size - out / axis.scale) / 2
    denominator = math.lcm(step.denominator, first.denominator)
    numerators = np.arange(out).astype(object) * int(step * denominator) + int(first * denominator)
    return Positions(numerators, denominator)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution kernel (Keys, IEEE Trans. ASSP 29, 1981, eq. 4)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


HALF = Fraction(1, 2)
NEAREST: dict[str, Callable[[Positions], np.ndarray]] = {
    "round_prefer_floor": lambda x: -x.opposite.floor(HALF),
    "round_prefer_ceil": lambda x: x.floor(HALF),
    "floor": Positions.floor,
    "ceil": lambda x: -x.opposite.floor(),
}


def axis_taps(
    axis: AxisScale,
    *,
    mode: str,
    transform: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
) -> Taps:
    """The taps of one axis. Positions beyond the edges read the edge, or nothing with `exclude_outside`.

    With `antialias`, shrinking stretches the kernel by 1/scale, so that all elements take part.
    """
    x = source_positions(axis, transform)
    outside = np.zeros(axis.out, bool)
    if transform == "tf_crop_and_resize":
        outside = (x.floor() < 0) | (-x.opposite.floor() > axis.size - 1)
    if mode == "nearest":
        indices = NEAREST[nearest_mode](x)[:, None]
        return Taps(np.clip(indices, 0, axis.size - 1), np.ones(indices.shape), outside)
    shrink = min(axis.scale, Fraction(1)) if antialias else Fraction(1)
    reach = 1 if mode == "linear" else 2
    first = math.floor(-reach / shrink) + 1
    indices = x.floor()[:, None] + np.arange(first, 2 - first)
    distance = x.minus(indices) * float(shrink)
    weights = _triangle(distance) if mode == "linear" else _cubic(distance, cubic_coeff_a)
    if exclude_outside:
        weights = np.where((indices >= 0) & (indices < axis.size), weights, 0)
    if exclude_outside or antialias:
        weights = weights / weights.sum(1, keepdims=True)
    used = (weights != 0).any(0)
    if axis.out and not used.all():  # a column of zeros costs a pass over the data
        indices, weights = indices[:, used], weights[:, used]
    return Taps(np.clip(indices, 0, axis.size - 1), weights, outside)


def apply_taps(x: np.ndarray, taps: Taps, axis: int) -> np.ndarray:
    """The weighted sum along one axis, in the dtype of x."""
    shape = [1] * x.ndim
    shape[axis] = -1
    terms = (
        np.take(x, taps.indices[:, t], axis) * taps.weights[:, t].astype(x.dtype).reshape(shape)
        for t in range(taps.indices.shape[1])
    )
    return sum(terms)

"""The taps of one resampled axis: which elements make each element of the result, and their weights.

Positions are exact fractions; only weights are rounded. Sizes that stand for many make a rule (`TapRule`) in the place of
tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from graphc.ops._positions import Positions, Reads
from graphc.ops.precision import FLOAT32

TRANSFORMS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",  # of opset 11 alone
)


@dataclass(frozen=True, eq=False)
class Taps:
    """How one axis is resized. The result is the extrapolation value where `outside` holds."""

    indices: np.ndarray  # int64 [out, taps], each within the axis
    weights: np.ndarray  # float64 [out, taps], each row adds up to 1
    outside: np.ndarray  # bool [out]

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def width(self) -> int:
        """Taps of each result."""
        return self.indices.shape[1]

    def is_identity(self, size: int) -> bool:
        """Does an axis of that size stay as it is?"""
        n, taps = self.indices.shape
        return n == size and taps == 1 and np.array_equal(self.indices[:, 0], np.arange(n)) and not self.outside.any()


class Ratio(NamedTuple):
    """A fraction of sizes that stand for many."""

    numerator: int
    denominator: int


class AxisScale(NamedTuple):
    """One axis of a Resize: sizes, the scale that maps positions, and the part of the axis that is resized."""

    size: int
    out: int
    scale: Fraction | Ratio
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


def source_positions(axis: AxisScale, transform: str) -> Positions:
    """Where ONNX Resize reads each output element.

    Exact, so that what falls on a whole number or half way between two does so whatever the sizes.
    """
    size, out, p, q = axis.size, axis.out, axis.scale.numerator, axis.scale.denominator
    match transform:
        case "asymmetric":
            return Positions(out, q, 0, p)
        case "align_corners":
            return Positions(out, size - 1, 0, out - 1) if out > 1 else Positions(out, 0, 0, 1)
        case "tf_crop_and_resize":
            return _cropped_positions(axis)
        case "pytorch_half_pixel" if out == 1:
            return Positions(out, 0, 0, 1)
        case "tf_half_pixel_for_nn":
            return Positions(out, 2 * q, q, 2 * p)
        case "half_pixel_symmetric":
            return Positions(out, 2 * q, q - p + size * p - out * q, 2 * p)
        case _:
            return Positions(out, 2 * q, q - p, 2 * p)


def _cropped_positions(axis: AxisScale) -> Positions:
    last, out = axis.size - 1, axis.out
    first = axis.start * last if out > 1 else HALF * (axis.start + axis.end) * last
    step = (axis.end - axis.start) * last / (out - 1) if out > 1 else Fraction(0)
    divisor = math.lcm(step.denominator, first.denominator)
    return Positions(out, int(step * divisor), int(first * divisor), divisor)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution kernel (Keys, IEEE Trans. ASSP 29, 1981, eq. 4)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


HALF = Fraction(1, 2)
NEAREST: dict[str, Callable[[Positions], Positions]] = {  # whose floor is the element
    "round_prefer_floor": lambda x: x.halves.plus(x.divisor - 1),
    "round_prefer_ceil": lambda x: x.halves.plus(x.divisor),
    "floor": lambda x: x,
    "ceil": lambda x: x.plus(x.divisor - 1),
}


@dataclass(frozen=True)
class TapRule:
    """What the taps of an axis follow from. Positions beyond the edges read the edge, or nothing with `exclude_outside`.

    mode    'nearest': one tap, the floor of each position; 'linear': two; 'cubic': four
    shrink  of distances: a wider kernel, which has more taps; the weights are then made to add up to 1
    """

    positions: Positions
    size: int
    mode: str
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    shrink: Fraction | None = None

    @property
    def of_many(self) -> bool:
        """Do sizes in it stand for many?"""
        return self.reads.of_many

    @property
    def reads(self) -> Reads:
        """The element that each position lies in or behind."""
        return Reads(self.positions, self.size)

    @property
    def count(self) -> int:
        return self.positions.count

    @property
    def width(self) -> int:
        """Taps of each result."""
        return len(self.steps)

    @property
    def steps(self) -> range:
        """From that element to each tap."""
        reach = {"nearest": 0, "linear": 1, "cubic": 2}[self.mode]
        if reach == 0:
            return range(1)
        first = math.floor(-reach / (self.shrink or Fraction(1))) + 1
        return range(first, 2 - first)

    def taps(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices, int64 [count, taps], and weights, float64. Needs numbers."""
        x = self.positions
        indices = x.floor()[:, None] + np.array(self.steps)
        weights = np.ones(indices.shape)
        if self.mode != "nearest":
            distance = x.minus(indices) * float(self.shrink or 1)
            weights = _triangle(distance) if self.mode == "linear" else _cubic(distance, self.cubic_coeff_a)
            if self.exclude_outside:
                weights = np.where((indices >= 0) & (indices < self.size), weights, 0)
            if self.exclude_outside or self.shrink is not None:
                weights = weights / weights.sum(1, keepdims=True)
        return np.clip(indices, 0, self.size - 1), weights


def unchanged(size: int) -> TapRule:
    """An axis as it is."""
    return TapRule(Positions(size, 1, 0, 1), size, "nearest")


def tap_rule(
    axis: AxisScale,
    *,
    mode: str,
    transform: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
) -> TapRule:
    """What the taps of one axis follow from. With `antialias`, shrinking stretches the kernel by 1/scale, so that all
    elements take part."""
    x = source_positions(axis, transform)
    if mode == "nearest":
        return TapRule(NEAREST[nearest_mode](x), axis.size, mode)
    shrink = min(Fraction(axis.scale.numerator, axis.scale.denominator), Fraction(1)) if antialias else None
    return TapRule(x, axis.size, mode, cubic_coeff_a, exclude_outside, shrink)


def axis_taps(axis: AxisScale, *, transform: str = "half_pixel", **attrs: Any) -> Taps:
    """The taps of one axis, whose sizes are numbers. attrs: as of `tap_rule`."""
    rule = tap_rule(axis, transform=transform, **attrs)
    outside = np.zeros(axis.out, bool)
    if transform == "tf_crop_and_resize":
        x = source_positions(axis, transform)
        outside = (x.floor() < 0) | (NEAREST["ceil"](x).floor() > axis.size - 1)
    indices, weights = rule.taps()
    used = (weights != 0).any(0)
    if axis.out and not used.all():  # a column of zeros costs a pass over the data
        indices, weights = indices[:, used], weights[:, used]
    return Taps(indices, weights, outside)


def apply_taps(x: np.ndarray, taps: Taps, axis: int) -> np.ndarray:
    """The weighted sum along one axis, in the dtype of x."""
    shape = [1] * x.ndim
    shape[axis] = -1
    terms = (
        np.take(x, taps.indices[:, t], axis) * taps.weights[:, t].astype(x.dtype).reshape(shape)
        for t in range(taps.indices.shape[1])
    )
    return sum(terms)

"""How far quantised values are from those in float."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dtypes import is_float


@dataclass
class Noise:
    """Sums over all that was seen: squares of the values in float, and of the differences. Of values that are no floats it counts
    them, and those that differ."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, expected: Any, actual: Any) -> None:
        if not isinstance(expected, np.ndarray):
            return  # sequences and maps
        if not is_float(expected.dtype):
            self.signal += expected.size
            self.noise += float(np.count_nonzero(expected != actual))
            return
        a, b = expected.astype(np.float64), actual.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            difference = np.nan_to_num(np.where(same, 0, b - a), nan=np.inf, posinf=np.inf, neginf=-np.inf)
        self.signal += float(np.square(a[np.isfinite(a)]).sum())
        self.noise += float(np.square(difference).sum())

    @property
    def relative(self) -> float:
        """The norm of the differences over that of the values."""
        if not self.noise:
            return 0.0
        if math.isinf(self.noise):
            return math.inf
        return math.sqrt(self.noise / self.signal) if self.signal else math.inf

    @property
    def decibels(self) -> float:
        """Signal to noise: 20 dB are a relative error of 0.1, 40 dB one of 0.01."""
        return decibels(self.relative)


def decibels(relative: float) -> float:
    return math.inf if relative == 0 else -20 * math.log10(relative) if math.isfinite(relative) else -math.inf


def weight_noise(weights: np.ndarray, quantized: np.ndarray) -> Noise:
    found = Noise()
    found.add(weights, quantized)
    return found


def noises(expected: Iterable[Sequence[Any]], actual: Iterable[Sequence[Any]]) -> list[Noise]:
    """One for each value. expected, actual: of each batch the values."""
    found: list[Noise] = []
    for right, arrays in zip(expected, actual):
        found = found or [Noise() for _ in right]
        for noise, a, b in zip(found, right, arrays):
            noise.add(a, b)
    return found

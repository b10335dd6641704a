"""Which element of an axis each result reads, in whole numbers: so that sizes may stand for many (graphc/sizes.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from graphc.sizes import holds_sizes, is_size, largest, smallest

MOST = 1 << 61
OUTSIDE = -1  # a position that is filled
Edge = Literal["fill", "clamp", "reflect", "wrap"]
EDGES: tuple[Edge, ...] = ("fill", "clamp", "reflect", "wrap")


@dataclass(frozen=True)
class Positions:
    """(i step + first) / divisor, for i from 0 below `count`."""

    count: int
    step: int
    first: int
    divisor: int

    @property
    def fit(self) -> bool:
        """Can 64 bits hold the numerators?"""
        return self.count * self.step + self.first < MOST

    @property
    def numerators(self) -> np.ndarray:
        """object [count]: Python's integers, which have no end."""
        return np.arange(self.count).astype(object) * self.step + self.first

    def floor(self) -> np.ndarray:
        """int64 [count]."""
        return (self.numerators // self.divisor).astype(np.int64)

    def minus(self, indices: np.ndarray) -> np.ndarray:
        """float64 [count, taps]: position - index, rounded once."""
        return ((self.numerators[:, None] - indices * self.divisor) / self.divisor).astype(np.float64)

    def plus(self, numerator: int) -> Positions:
        """Each position and numerator / divisor."""
        return replace(self, first=self.first + numerator)

    @property
    def halves(self) -> Positions:
        """The same positions over twice the divisor."""
        return Positions(self.count, 2 * self.step, 2 * self.first, 2 * self.divisor)


@dataclass(frozen=True)
class Reads:
    """Result i reads element low + the floor of positions[i], which `edge` brings into the `size` elements from `low` on.

    edge: beyond them is a fill, the element at the edge, or the elements again, mirrored or from the other end
    """

    positions: Positions
    size: int
    edge: Edge = "clamp"
    low: int = 0

    @property
    def count(self) -> int:
        return self.positions.count

    @property
    def of_many(self) -> bool:
        """Do sizes in it stand for many?"""
        return holds_sizes(self)

    def indices(self) -> np.ndarray:
        """int64 [count], OUTSIDE where there is a fill. Needs numbers."""
        at = self.positions.floor()
        match self.edge:
            case "fill":
                return np.where((at >= 0) & (at < self.size), at + self.low, OUTSIDE)
            case "clamp":
                at = np.clip(at, 0, self.size - 1)
            case "reflect":
                period = 2 * (self.size - 1)
                at = at % period if period else np.zeros_like(at)
                at = np.minimum(at, period - at)
            case "wrap":
                at = at % self.size
        return at + self.low

    def run(self) -> tuple[int, int]:
        """[first, end) of results that are neighbours in memory, as values: the longest one where there is a fill."""
        p, first = self.positions, self.positions.first
        if is_size(p.step) or is_size(p.divisor) or (p.step, p.divisor) != (1, 1):
            return 0, 0
        begin = smallest(largest(-first, 0), self.count)
        return begin, largest(begin, smallest(self.size - first, self.count))


def every(size: int) -> Reads:
    """An axis as it is."""
    return Reads(Positions(size, 1, 0, 1), size)


def padded(size: int, before: int, after: int, mode: str) -> Reads | None:
    """What a padded axis reads; None where it stays. Negative amounts crop; in mode 'constant' also more than there is."""
    if _is_zero(before) and _is_zero(after):
        return None
    count = before + size + after
    if mode == "constant":
        return Reads(Positions(count, 1, -before, 1), size, "fill")
    edges: dict[str, Any] = {"edge": "clamp", "reflect": "reflect", "wrap": "wrap"}
    low = largest(-before, 0)
    return Reads(Positions(count, 1, -largest(before, 0), 1), size - low - largest(-after, 0), edges[mode], low)


def _is_zero(amount: int) -> bool:
    """A size is taken as another number: whatever it is, the same is right."""
    return not is_size(amount) and amount == 0

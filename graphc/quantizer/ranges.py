"""The range of an activation over data: all of it, or what is left when rare values are cut off.

Data is looked at twice: the first pass finds the extremes, the second counts in bins between them. So the result depends neither
on the order of the data nor on the size of batches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphc.quantizer.scheme import Scheme

BINS = 2048  # on each side of 0
LEVELS = 256
STEP = 8  # bins from one range that is tried to the next


class Range(NamedTuple):
    low: float
    high: float

    def joined(self, x: np.ndarray) -> Range:
        """With the values of an array."""
        if not x.size:
            return self
        return Range(min(self.low, float(x.min())), max(self.high, float(x.max())))

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self).all())


EMPTY = Range(np.inf, -np.inf)


class Histogram:
    """Counts of values in 2·BINS bins of one width over [-edge, edge], where edge is the largest magnitude of a range; and of zeros,
    which are the first of the bins above them, too."""

    def __init__(self, extremes: Range) -> None:
        self.extremes = extremes
        self.edge = max(abs(extremes.low), abs(extremes.high))
        self.counts = np.zeros(2 * BINS, np.int64)
        self.zeros = 0

    @property
    def width(self) -> float:
        return self.edge / BINS

    def add(self, x: np.ndarray) -> None:
        if self.edge > 0:
            self.counts += np.histogram(x, 2 * BINS, (-self.edge, self.edge))[0]
            self.zeros += x.size - int(np.count_nonzero(x))


def percentile_range(histogram: Histogram, percentile: float) -> Range:
    """What holds so many percent of all values, and leaves out as many on one side as on the other; as numpy.percentile, to the
    width of a bin."""
    below = np.concatenate([[0], np.cumsum(histogram.counts)])
    if not below[-1]:
        return histogram.extremes
    edges = np.linspace(-histogram.edge, histogram.edge, len(below))
    cut = (1 - percentile / 100) / 2
    low, high = (float(np.interp(part * below[-1], below, edges)) for part in (cut, 1 - cut))
    return Range(max(low, histogram.extremes.low), min(high, histogram.extremes.high))


def entropy_range(histogram: Histogram, symmetric: bool) -> Range:
    """The part [-t, t] of the range, or of its extremes, whose values lose least by quantisation: the Kullback-Leibler divergence of
    their distribution, with all that lies outside at its ends, from that of 256 levels. Zeros do not count: they have a level of
    their own in any range, and lose nothing.

    S. Migacz, "8-bit Inference with TensorRT", GPU Technology Conference 2017.
    """
    best, found = np.inf, BINS
    low, high = (-histogram.edge, histogram.edge) if symmetric else histogram.extremes
    if not histogram.edge:
        return histogram.extremes
    counts = histogram.counts.copy()
    counts[BINS] -= histogram.zeros
    first, last = (0 if low < 0 else BINS), (2 * BINS if high > 0 else BINS)
    for reach in range(STEP, BINS + 1, STEP):
        a, b = (max(first, BINS - reach), min(last, BINS + reach))
        if b - a < LEVELS and reach < BINS:
            continue
        lost = divergence(counts, a, b)
        if lost <= best:  # of ranges that lose the same, the widest
            best, found = lost, reach
    t = found * histogram.width
    return Range(max(low, -t), min(high, t))


def divergence(counts: np.ndarray, a: int, b: int) -> float:
    """Σ p log(p/q) of bins a to b: p are the counts, those outside added at the ends; q those of LEVELS levels, each spread evenly
    over the bins of its own that hold something. A bin that holds none of q gets as little as 1e-12 of all."""
    inside = counts[a:b].astype(np.float64)
    p = inside.copy()
    p[0] += counts[:a].sum()
    p[-1] += counts[b:].sum()
    level = np.arange(b - a) * LEVELS // (b - a)
    there = inside > 0
    held = np.bincount(level[there], minlength=LEVELS)
    total = np.bincount(level, inside, LEVELS)
    q = np.where(there, (total / np.maximum(held, 1))[level], 0)
    if not p.sum() or not q.sum():
        return np.inf
    p, q = p / p.sum(), np.maximum(q / q.sum(), 1e-12)
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def found_range(histogram: Histogram, scheme: Scheme) -> Range:
    """By the scheme's method."""
    if scheme.method == "percentile":
        return percentile_range(histogram, scheme.percentile)
    if scheme.method == "entropy":
        return entropy_range(histogram, scheme.symmetric)
    return histogram.extremes

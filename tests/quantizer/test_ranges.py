"""Ranges against NumPy, and against the divergence written as loops."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.quantizer import ranges
from graphc.quantizer.ranges import BINS, EMPTY, LEVELS, Histogram, Range, divergence, entropy_range, percentile_range

RNG = np.random.default_rng(0)
DATA = {
    "normal": RNG.standard_normal(30_000),
    "relu": np.maximum(RNG.standard_normal(30_000), 0),
    "shifted": 3 + RNG.standard_normal(30_000),
    "negative": -np.abs(RNG.standard_cauchy(30_000)).clip(0, 50),
    "outlier": np.append(RNG.standard_normal(30_000), [40.0]),
}


def histogram(x: np.ndarray, parts: int = 1) -> Histogram:
    found = Histogram(EMPTY.joined(x))
    for part in np.array_split(x.astype(np.float32), parts):
        found.add(part)
    return found


def test_extremes_of_batches():
    extent = EMPTY
    for part in np.array_split(DATA["normal"], 7):
        extent = extent.joined(part)
    assert extent == (DATA["normal"].min(), DATA["normal"].max())
    assert EMPTY.joined(np.zeros((0, 3))) == EMPTY and not EMPTY.is_finite


@pytest.mark.parametrize("name", DATA)
def test_counts_do_not_depend_on_batches(name: str):
    x = DATA[name]
    one, several = histogram(x), histogram(x, 9)
    np.testing.assert_array_equal(one.counts, several.counts)
    assert one.counts.sum() == x.size and one.zeros == several.zeros == np.count_nonzero(x == 0)


@pytest.mark.parametrize("percentile", [90, 99, 99.9, 100])
@pytest.mark.parametrize("name", DATA)
def test_percentiles(name: str, percentile: float):
    """NumPy's, to the width of a bin and to the neighbours of the value of that rank, between which bins may be empty."""
    x, found = DATA[name], histogram(DATA[name])
    cut = (1 - percentile / 100) / 2
    ordered = np.sort(x)
    for part, end in zip((cut, 1 - cut), percentile_range(found, percentile)):
        rank = part * (len(x) - 1)
        below, above = ordered[max(int(rank) - 1, 0)], ordered[min(int(np.ceil(rank)) + 1, len(x) - 1)]
        assert below <= np.percentile(x, 100 * part) <= above
        assert below - 1.01 * found.width <= end <= above + 1.01 * found.width


def straight(counts: np.ndarray, a: int, b: int) -> float:
    """The divergence, bin by bin."""
    inside = [float(c) for c in counts[a:b]]
    p = list(inside)
    p[0] += float(counts[:a].sum())
    p[-1] += float(counts[b:].sum())
    level = [i * LEVELS // len(inside) for i in range(len(inside))]
    q = [0.0] * len(inside)
    for number in range(LEVELS):
        bins = [i for i in range(len(inside)) if level[i] == number]
        held = [i for i in bins if inside[i] > 0]
        for i in held:
            q[i] = sum(inside[j] for j in bins) / len(held)
    lost = 0.0
    for i in range(len(inside)):
        if p[i] > 0:
            share, other = p[i] / sum(p), max(q[i] / sum(q), 1e-12)
            lost += share * np.log(share / other)
    return lost


@pytest.mark.parametrize(("a", "b"), [(1500, 2600), (BINS, BINS + 300), (0, 2 * BINS), (2000, 2500)])
def test_divergence(a: int, b: int):
    counts = histogram(DATA["outlier"]).counts
    assert divergence(counts, a, b) == pytest.approx(straight(counts, a, b), rel=1e-9)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", DATA)
def test_entropy_finds_the_least_divergence(name: str, symmetric: bool, monkeypatch: pytest.MonkeyPatch):
    """Of all ranges that are tried; with zeros, which lose nothing, left out."""
    monkeypatch.setattr(ranges, "STEP", 64)
    found = histogram(DATA[name])
    low, high = entropy_range(found, symmetric)
    counts = histogram(DATA[name][DATA[name] != 0]).counts
    least, most = found.extremes
    tried = {}
    for reach in range(64, BINS + 1, 64):
        a = BINS - reach if symmetric or least < 0 else BINS
        b = BINS + reach if symmetric or most > 0 else BINS
        if b - a >= LEVELS or reach == BINS:
            tried[reach] = divergence(counts, a, b)
    t = max(-low, high)
    assert divergence(counts, *_bins(found, low, high, symmetric)) == pytest.approx(min(tried.values()), rel=1e-9)
    assert t <= found.edge


def _bins(found: Histogram, low: float, high: float, symmetric: bool) -> tuple[int, int]:
    reach = round(max(-low, high) / found.width / 64) * 64 or 64
    least, most = found.extremes
    return (BINS - reach if symmetric or least < 0 else BINS), (BINS + reach if symmetric or most > 0 else BINS)


def test_entropy_cuts_an_outlier_off():
    """One value at 40 among normal ones that end at 4 takes most of a range of all, and little of what is told."""
    low, high = entropy_range(histogram(DATA["outlier"]), False)
    assert 2 < high < 12 and -12 < low < -2


def test_nothing_but_zeros():
    found = histogram(np.zeros(100))
    assert percentile_range(found, 99) == entropy_range(found, False) == Range(0, 0)

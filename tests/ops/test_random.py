"""Random operators draw what they say: by the distribution of many draws, from fixed seeds.

Each statistic is compared with the value that one of a thousand true samples exceeds, so that a seed that fails at all tells
something. Kolmogorov and Smirnov's for numbers, Pearson's chi-square for counts (Wilson and Hilferty's approximation).
"""

import math

import numpy as np
import pytest

import graphc
from graphc.graph import Builder

N = 20_000
KOLMOGOROV = math.sqrt(-math.log(0.001 / 2) / 2)  # of √n times the largest distance
Z = 3.0902  # of a standard normal number
TARGETS = ("cpu", "reference")


def drawn(op, x=None, target="cpu", **attrs):
    b = Builder()
    operands = () if x is None else (b.input("x", x.dtype, x.shape),)
    model = graphc.compile(b.build({"y": b.add(op, *operands, **attrs)}), target=target)
    return model.run({} if x is None else {"x": x})["y"]


def require_distribution(samples, cumulative):
    """Kolmogorov and Smirnov's test against a cumulative distribution function."""
    samples = np.sort(np.asarray(samples, np.float64).ravel())
    n = len(samples)
    want = cumulative(samples)
    steps = np.arange(n + 1) / n
    distance = max(np.abs(steps[1:] - want).max(), np.abs(want - steps[:-1]).max())
    assert distance * math.sqrt(n) < KOLMOGOROV


def require_counts(counts, probabilities):
    """Pearson's test of counts of categories."""
    counts, want = np.asarray(counts, np.float64), np.asarray(probabilities) * np.sum(counts)
    freedom = len(counts) - 1
    limit = freedom * (1 - 2 / (9 * freedom) + Z * math.sqrt(2 / (9 * freedom))) ** 3
    assert ((counts - want) ** 2 / want).sum() < limit


def normal(mean, scale):
    return np.vectorize(lambda x: 0.5 * math.erfc((mean - x) / (scale * math.sqrt(2))))


def uniform(low, high):
    return lambda x: np.clip((x - low) / (high - low), 0, 1)


NUMBERS = [
    ("RandomNormal", {"mean": 0.0, "scale": 1.0}, normal(0, 1)),
    ("RandomNormal", {"mean": -3.0, "scale": 0.25}, normal(-3, 0.25)),
    ("RandomUniform", {"low": 0.0, "high": 1.0}, uniform(0, 1)),
    ("RandomUniform", {"low": -2.0, "high": 6.0}, uniform(-2, 6)),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, attrs, cumulative", NUMBERS)
def test_numbers(name, attrs, cumulative, dtype, target):
    of_shape = drawn(name, target=target, shape=(N // 100, 100), dtype=dtype, seed=1.0, **attrs)
    like = drawn(f"{name}Like", np.zeros((N,), dtype), target, seed=2.0, **attrs)
    for samples in (of_shape, like):
        assert samples.dtype == dtype
        require_distribution(samples, cumulative)
    assert abs(np.corrcoef(of_shape.ravel()[:-1], of_shape.ravel()[1:])[0, 1]) < Z / math.sqrt(N)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("p", [0.0, 0.05, 0.5, 0.9, 1.0])
def test_bernoulli(p, target):
    y = drawn("Bernoulli", np.full((N,), p, np.float32), target, seed=3.0, dtype="int64")
    if p in (0, 1):
        assert (y == p).all()
    else:
        require_counts([(y == 0).sum(), (y == 1).sum()], [1 - np.float32(p), np.float32(p)])


@pytest.mark.parametrize("target", TARGETS)
def test_multinomial(target):
    p = np.array([[0.5, 0.25, 0.2, 0.05], [0.1, 0.2, 0.3, 0.4]])
    y = drawn("Multinomial", np.log(p).astype(np.float32) + 2, target, sample_size=N, seed=4.0)  # not normalised
    assert y.dtype == np.int32 and y.shape == (2, N)
    for row, of in zip(y, p):
        require_counts(np.bincount(row, minlength=4), of)
    both = np.bincount(y[0] * 4 + y[1], minlength=16)  # rows are independent
    require_counts(both, np.outer(*p).ravel())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
def test_dropout(ratio, target):
    b = Builder()
    x = b.input("x", "float32", (N,))
    y, mask = b.add("Dropout", x, b.constant(ratio, "float32"), b.constant(True, "bool"), outputs=2, seed=5)
    results = graphc.compile(b.build({"y": y, "mask": mask}), target=target).run({"x": np.ones(N, np.float32)})
    kept = results["mask"]
    require_counts([(~kept).sum(), kept.sum()], [ratio, 1 - ratio])
    np.testing.assert_allclose(results["y"], np.where(kept, 1 / (1 - np.float32(ratio)), 0), rtol=1e-6)
    require_counts(
        np.bincount(kept[:-1] * 2 + kept[1:], minlength=4), [ratio**2, *[ratio * (1 - ratio)] * 2, (1 - ratio) ** 2]
    )


SEEDED = [
    ("RandomNormal", None, {"shape": (50,)}),
    ("RandomUniform", None, {"shape": (50,)}),
    ("RandomNormalLike", np.zeros(50, np.float32), {}),
    ("RandomUniformLike", np.zeros(50, np.float32), {}),
    ("Bernoulli", np.full(50, 0.5, np.float32), {}),
    ("Multinomial", np.zeros((1, 3), np.float32), {"sample_size": 50}),
]


@pytest.mark.parametrize("name, x, attrs", SEEDED)
def test_a_seed_tells_the_draw(name, x, attrs):
    """The same on each target and in each run, to rounding; another seed, or none, gives another one."""
    first = drawn(name, x, seed=1.0, **attrs)
    for target in TARGETS:
        # bits are the same, and float32 kernels round where the reference computes in float64
        np.testing.assert_allclose(drawn(name, x, target, seed=1.0, **attrs), first, rtol=0, atol=2e-6)
    assert not np.array_equal(drawn(name, x, seed=2.0, **attrs), first)
    assert not np.array_equal(drawn(name, x, **attrs), drawn(name, x, **attrs))

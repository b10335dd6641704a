"""Grouped convolutions whose groups are narrower than a vector."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.graph import Builder


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize(("channels", "groups"), [(32, 16), (64, 16), (24, 6), (40, 5), (128, 32), (64, 8)])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (1, 1, 1), (2, 1, 2)])
def test_against_the_reference(channels: int, groups: int, kernel: int, stride: int, dilation: int, target: str):
    """With bias, residual and activation; equal bits for every number of threads. Tolerance: sums of up to 144 products."""
    rng = np.random.default_rng([channels, groups, kernel])
    b = Builder("net")
    x = b.add("Relu", b.input("x", np.float32, (2, channels, 11, 13)))
    w = b.constant(rng.standard_normal((channels, channels // groups, kernel, kernel)), np.float32)
    bias = b.constant(rng.standard_normal(channels), np.float32)
    settings = {"group": groups, "strides": [stride] * 2, "pads": [1, 0, 1, 1], "dilations": [dilation] * 2}
    y = b.add("Conv", x, w, bias, **settings)
    graph = b.build({"y": b.add("Tanh", b.add("Add", y, b.add("Abs", y)))})
    feeds = {"x": rng.standard_normal((2, channels, 11, 13)).astype(np.float32)}
    require(target)
    results = [graphc.compile(graph, target=target, threads=n).run(feeds)["y"] for n in (1, 2, 3)]
    exact = graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(results[0], exact, rtol=0, atol=2e-5)
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


def test_no_zeros_of_other_groups_are_multiplied():
    """A kernel of as many steps as a group has channels, on vectors that are wider."""
    b = Builder("net")
    x = b.input("x", np.float32, (1, 64, 8, 8))
    graph = b.build({"y": b.add("Conv", x, b.constant(np.ones((64, 4, 3, 3)), np.float32), group=16, pads=[1] * 4)})
    require("cpu:avx2")
    kernels = [s.kernel for s in graphc.compile(graph, target="cpu:avx2", threads=1).plan().steps]
    assert any("_1_8_1_4_" in k and k.endswith("_4_None_False") for k in kernels), kernels


NOT_NUMBERS = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize(
    ("groups", "per_in", "per_out"),
    [(2, 24, 24), (3, 20, 40), (4, 3, 5), (2, 6, 1), (5, 16, 12), (8, 1, 3), (3, 29, 29)],
)
def test_groups_are_independent(groups: int, per_in: int, per_out: int, target: str):
    """What is no number in one group leaves the bits of all others as they are, with a residual and an expression behind."""
    require(target)
    rng = np.random.default_rng([groups, per_in, per_out])
    channels, out = groups * per_in, groups * per_out
    x, r = (rng.standard_normal((2, c, 6, 7)).astype(np.float32) for c in (channels, out))
    weights = rng.standard_normal((out, per_in, 3, 3)).astype(np.float32)
    for bad, number in enumerate(NOT_NUMBERS):
        bad %= groups
        spoiled = x.copy()
        spoiled[1, bad * per_in + per_in // 2, 2, 3] = number
        b = Builder("net")
        y = b.add("Conv", b.input("x", np.float32, x.shape), b.constant(weights), group=groups, pads=[1] * 4)
        other = b.input("r", np.float32, r.shape)
        graph = b.build({"y": b.add("Add", b.add("Mul", y, other), y) if bad % 2 else b.add("Add", y, other)})
        exact = graphc.compile(graph, target="reference").run({"x": x, "r": r})["y"]
        for threads in (1, 2):
            model = graphc.compile(graph, target=target, threads=threads, winograd=0)
            whole, found = (model.run({"x": v, "r": r})["y"] for v in (x, spoiled))
            np.testing.assert_allclose(whole, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
            own = np.arange(out) // per_out == bad
            np.testing.assert_array_equal(found[:, ~own], whole[:, ~own])
            assert not np.isfinite(found[1, own, 2, 3]).any()


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("channels", [9, 20, 31, 40])
def test_lanes_behind_the_last_channel_are_not_read(channels: int, target: str):
    """An infinite sum is NaN in the lanes whose weights are zeros; an activation makes a number of the channels only."""
    require(target)
    rng = np.random.default_rng(channels)
    b = Builder("net")
    x = b.input("x", np.float32, (1, channels, 5, 6))
    w = [b.constant(rng.uniform(0.1, 1, (channels, channels, 1, 1)), np.float32) for _ in range(2)]
    y = b.add("Clip", b.add("Conv", x, w[0]), b.constant(0.0, np.float32), b.constant(6.0, np.float32))
    graph = b.build({"y": b.add("Conv", y, w[1])})
    feeds = {"x": rng.uniform(0, 1, (1, channels, 5, 6)).astype(np.float32)}
    feeds["x"][0, 1, 2, 3] = np.inf
    exact = graphc.compile(graph, target="reference").run(feeds)["y"]
    assert np.isfinite(exact).all()
    for threads in (1, 2):
        got = graphc.compile(graph, target=target, threads=threads).run(feeds)["y"]
        np.testing.assert_allclose(got, exact, rtol=1e-5)

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
    assert any(k.startswith("conv_row") and k.endswith("_4") for k in kernels), kernels

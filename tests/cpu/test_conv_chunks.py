"""Convolutions that take their input blocks in chunks and fetch weights ahead, as layers with many weights do."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.backends.cpu.target import detect
from graphc.backends.cpu.tile import tiles
from graphc.graph import Builder, Graph

# channels, output channels, size, kernel, stride, pad
SHAPES = [
    (96, 128, 7, 1, 1, 0),  # rows that follow each other
    (64, 96, 7, 3, 1, 1),
    (80, 128, 14, 3, 2, 1),
    (64, 160, 14, 1, 2, 0),
    (48, 64, 9, 1, 1, 0),  # one tile for all channels: no chunks
    (64, 256, 23, 3, 2, 1),  # rows of 12 pixels, in tiles of several heights
]


@pytest.fixture(autouse=True)
def small_caches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiles, "CACHED", 20_000 / detect().l2)
    monkeypatch.setattr(tiles, "STREAMED", 1_000 / detect().l2)


def net(channels: int, out: int, size: int, kernel: int, stride: int, pad: int, activation: str) -> Graph:
    """A convolution with a residual and an activation behind it."""
    rng = np.random.default_rng([channels, out, size, kernel])
    b = Builder("net")
    x = b.add("Relu", b.input("x", np.float32, (2, channels, size, size)))
    w = b.constant(rng.standard_normal((out, channels, kernel, kernel)) / channels**0.5, np.float32)
    y = b.add("Conv", x, w, b.constant(rng.standard_normal(out), np.float32), strides=[stride] * 2, pads=[pad] * 4)
    small = (size + 2 * pad - kernel) // stride + 1
    y = b.add(activation, b.add("Add", y, b.input("residual", np.float32, (2, out, small, small))))
    return b.build({"y": y})


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_bits(shape: tuple[int, ...], activation: str, target: str, monkeypatch: pytest.MonkeyPatch):
    """Against float64; chunks and threads change no bit, because partial sums are float32 in registers and in memory."""
    graph = net(*shape, activation)
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    require(target)
    results = [graphc.compile(graph, target=target, threads=n, cache=False).run(feeds)["y"] for n in (1, 2, 3)]
    monkeypatch.undo()
    results.append(graphc.compile(graph, target=target, threads=1, cache=False).run(feeds)["y"])
    exact = graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(results[0], exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


@pytest.mark.parametrize(
    ("shape", "chunks"), [(SHAPES[0], True), (SHAPES[2], True), (SHAPES[4], False), (SHAPES[5], True)], ids=str
)
def test_explain_tells_of_chunks(shape: tuple[int, ...], chunks: bool):
    require("cpu:avx512")  # the tiles of others do not divide these rows, or a layer has two steps
    plan = graphc.compile(net(*shape, "Relu"), threads=1, cache=False).plan()
    (reason,) = (s.reason for s in plan.steps if "Conv" in s.ops)
    assert ("input blocks at a time" in reason) == chunks

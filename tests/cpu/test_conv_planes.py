"""Convolutions from planes to few channels, with pixels in the lanes, against sums of shifted images in float64."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import require

import graphc
from graphc.backends.cpu.target import detect
from graphc.errors import UnsupportedError
from graphc.graph import Builder, Graph

LANES = {"cpu:avx512": 16, "cpu:avx2": 8, "cpu:portable": 8}
EPILOGUES = {
    "none": lambda y: y,
    "Relu": lambda y: np.maximum(y, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    "Clip": lambda y: np.clip(y, -0.5, 0.25),
}


@dataclass(frozen=True)
class Layer:
    n: int
    channels: int
    out_channels: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    bias: bool
    epilogue: str

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.channels, self.out_channels, *self.size])
        shapes = (
            (self.n, self.channels, *self.size),
            (self.out_channels, self.channels, *self.kernel),
            self.out_channels,
        )
        return tuple(rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes)

    def graph(self) -> Graph:
        x, w, bias = self.arrays()
        b = Builder("net")
        operands = [b.input("x", np.float32, x.shape), b.constant(w), *([b.constant(bias)] if self.bias else [])]
        y = b.add("Conv", *operands, strides=self.strides, dilations=self.dilations, pads=[*self.begin, *self.end])
        if self.epilogue == "Clip":
            y = b.add("Clip", y, b.constant(-0.5, np.float32), b.constant(0.25, np.float32))
        elif self.epilogue != "none":
            y = b.add(self.epilogue, y)
        return b.build({"y": y})

    def exact(self) -> tuple[np.ndarray, float]:
        """The result, and the largest sum of magnitudes."""
        arrays = [a.astype(np.float64) for a in self.arrays()]
        return EPILOGUES[self.epilogue](self._sums(*arrays)), self._sums(*map(np.abs, arrays)).max()

    def _sums(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
        x = np.pad(x, [(0, 0), (0, 0), *zip(self.begin, self.end)])
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations)]
        out = [(size - r) // s + 1 for size, r, s in zip(x.shape[2:], reach, self.strides)]
        y = np.zeros((self.n, self.out_channels, *out))
        for tap in product(*map(range, self.kernel)):
            where = tuple(
                slice(t * d, t * d + s * (o - 1) + 1, s) for t, d, s, o in zip(tap, self.dilations, self.strides, out)
            )
            y += np.einsum(
                "nc...,oc->no...", x[(slice(None), slice(None), *where)], w[(slice(None), slice(None), *tap)]
            )
        if self.bias:
            y += bias.reshape(-1, *[1] * len(self.size))
        return y


@st.composite
def layers(draw: st.DrawFn, lanes: int) -> Layer:
    """At least as many pixels per row as a vector has lanes; few output channels."""
    rank = draw(st.integers(1, 3))

    def few(*of: int) -> tuple[int, ...]:
        return tuple(draw(st.sampled_from(of)) for _ in range(rank))

    kernel, dilations, begin, end = few(1, 2, 3, 5, 9), few(1, 1, 2), few(0, 0, 1, 2), few(0, 0, 1, 3)
    strides = (*few(1, 1, 2, 3)[1:], 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    out = (*(draw(st.integers(1, 4)) for _ in range(rank - 1)), draw(st.integers(lanes, 5 * lanes + 1)))
    size = tuple(max(1, (o - 1) * s + r - b - e) for o, s, r, b, e in zip(out, strides, reach, begin, end))
    return Layer(
        draw(st.integers(1, 2)), draw(st.sampled_from((1, 2, 3, 4, 5, 20))), draw(st.integers(1, lanes // 2)), size, kernel,
        strides, dilations, begin, end, draw(st.booleans()), draw(st.sampled_from(sorted(EPILOGUES))),
    )  # fmt: skip


def is_served(layer: Layer) -> bool:
    """Enough products of a sum; of many channels, which come in blocks, enough of each."""
    return np.prod(layer.kernel) * (layer.channels if layer.channels <= 4 else 1) >= 9


def compiled(graph: Graph, target: str, threads: int = 1) -> graphc.Model:
    require(target)
    return graphc.compile(graph, target=target, threads=threads)


def kernels(model: graphc.Model) -> list[str]:
    return [s.kernel for s in model.plan().steps]


def check(layer: Layer, target: str) -> None:
    model, (x, _, _) = compiled(layer.graph(), target), layer.arrays()
    assert any(k.startswith("conv_planes_row") for k in kernels(model)), kernels(model)
    want, largest = layer.exact()
    got = model.run({"x": x})["y"]
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("target", LANES)
def test_any_geometry(target: str):
    @settings(max_examples=40, deadline=None)
    @given(layers(LANES[target]).filter(is_served))
    def run(layer: Layer) -> None:
        check(layer, target)

    run()


def test_every_number_of_channels_and_vectors_on_this_machine():
    """All register tiles: 1 to 8 channels, rows of one vector to six."""
    target = next(t for t in LANES if _has(t))
    lanes = LANES[target]
    for out_channels, pixels in product(range(1, lanes // 2 + 1), (lanes, 2 * lanes - 3, 4 * lanes, 5 * lanes + 1)):
        layer = Layer(1, 2, out_channels, (3, pixels), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1), True, "none")
        check(layer, target)


def _has(target: str) -> bool:
    try:
        detect(target.removeprefix("cpu:"))
    except UnsupportedError:
        return False
    return True


@pytest.mark.parametrize("target", LANES)
def test_equal_bits_for_every_number_of_threads(target: str, monkeypatch: pytest.MonkeyPatch):
    from graphc.backends.cpu.runtime import run

    monkeypatch.setattr(run, "SHARED_STEP", 0)
    monkeypatch.setattr(run, "SHARED_PROGRAM", 0)
    layer = Layer(3, 3, 2, (40, 53), (3, 5), (1, 1), (1, 1), (1, 2), (1, 2), True, "Tanh")
    x = layer.arrays()[0]
    results = [compiled(layer.graph(), target, n).run({"x": x})["y"] for n in (1, 2, 3)]
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


def test_a_residual_of_many_channels():
    """As denoisers end: the sum is a step of its own."""
    b, rng = Builder("net"), np.random.default_rng(2)
    x = b.input("x", np.float32, (1, 3, 9, 40))
    wide = b.add("Relu", b.add("Conv", x, b.constant(rng.uniform(-1, 1, (24, 3, 3, 3)), np.float32), pads=[1] * 4))
    noise = b.add("Conv", wide, b.constant(rng.uniform(-1, 1, (3, 24, 3, 3)), np.float32), pads=[1] * 4)
    graph = b.build({"y": b.add("Sub", x, noise)})
    model = graphc.compile(graph, threads=1)
    assert any(k.startswith("conv_planes_row_3") for k in kernels(model)), kernels(model)
    feeds = {"x": rng.uniform(-1, 1, (1, 3, 9, 40)).astype(np.float32)}
    want = graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=0, atol=1e-6 * np.abs(want).max() * 10)


@pytest.mark.parametrize("name", ["many channels", "short rows", "stride", "residual", "groups", "small window"])
def test_what_other_kernels_do(name: str):
    b, rng = Builder("net"), np.random.default_rng(1)
    channels = 12 if name == "many channels" else 2
    x = b.input("x", np.float32, (1, 2, 9, 3 if name == "short rows" else 40))
    groups, window = 2 if name == "groups" else 1, (2, 2) if name == "small window" else (3, 3)
    w = b.constant(rng.uniform(-1, 1, (channels, 2 // groups, *window)), np.float32)
    strides = [1, 2] if name == "stride" else [1, 1]
    y = b.add("Conv", x, w, pads=[1] * 4, strides=strides, group=groups)
    if name == "residual":
        y = b.add("Add", b.add("Conv", x, w, pads=[1] * 4), b.add("Relu", y))
    graph = b.build({"y": y})
    model = compiled(graph, "cpu:avx2" if _has("cpu:avx2") else "cpu:portable")
    served = [k.startswith("conv_planes_row") for k in kernels(model)].count(True)
    assert served == (1 if name == "residual" else 0), kernels(model)
    feeds = {"x": rng.uniform(-1, 1, graph.inputs[0].shape).astype(np.float32)}
    want = graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=0, atol=1e-5)

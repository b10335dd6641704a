"""1x1 convolutions by Strassen's algorithm: how images are cut, operands with halos, strides, batches, threads."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.backends.cpu.conv import algorithms, pointwise
from graphc.backends.cpu.conv.pointwise import cut
from graphc.backends.cpu.conv.window import window_of
from graphc.backends.cpu.lower.policy import DIRECT, STRASSEN
from graphc.backends.cpu.product.strassen import Halves
from graphc.backends.cpu.target import detect
from graphc.graph import Builder, Graph, Value

# channels, output channels, height, width, stride
SHAPES = [
    (64, 96, 14, 14, 1),
    (96, 64, 7, 7, 1),  # the halves share a row
    (64, 64, 27, 28, 2),
    (32, 160, 40, 41, 1),  # several blocks, an edge tile
    (64, 64, 5, 7, 1),
]


@pytest.fixture(autouse=True)
def wherever_it_fits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pointwise, "FEWEST_CHANNELS", 32)
    monkeypatch.setattr(algorithms, "fastest", lambda seconds: STRASSEN if STRASSEN in seconds else min(seconds))
    algorithms.candidates.cache_clear()
    yield
    algorithms.candidates.cache_clear()


def net(
    channels: int, out: int, height: int, width: int, stride: int, activation: str, halo: bool, images: int
) -> Graph:
    """A 1x1 convolution with a residual and an activation. halo: 3x3 convolutions read its input and its result too."""
    rng = np.random.default_rng([channels, out, height, width])
    b = Builder("net")

    def weights(*shape: int) -> Value:
        return b.constant(rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5, np.float32)

    x = b.add("Relu", b.input("x", np.float32, (images, channels, height, width)))
    y = b.add("Conv", x, weights(out, channels, 1, 1), weights(out), strides=[stride] * 2)
    high, wide = -(-height // stride), -(-width // stride)
    y = b.add(activation, b.add("Add", y, b.input("residual", np.float32, (images, out, high, wide))))
    if not halo:
        return b.build({"y": y})
    window = {"kernel_shape": [3, 3], "pads": [1] * 4}
    spread = b.add("Conv", y, weights(out, 1, 3, 3), group=out, **window)
    return b.build({"y": spread, "z": b.add("Conv", x, weights(channels, 1, 3, 3), group=channels, **window)})


def compiled(graph: Graph, target: str = "cpu", threads: int = 1) -> graphc.Model:
    require(target)
    return graphc.compile(graph, target=target, threads=threads)


def check(graph: Graph, target: str = "cpu", threads: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    got = compiled(graph, target, threads).run(feeds)
    exact = graphc.compile(graph, target="reference").run(feeds)
    for name, y in got.items():
        np.testing.assert_allclose(y, exact[name], rtol=0, atol=1e-5 * np.abs(exact[name]).max(), err_msg=name)
    return got


def algorithms_of(model: graphc.Model) -> list[str]:
    steps = [(s.algorithm, s.inside) for s in model.plan().steps]
    return [a for algorithm, inside in steps for a in (algorithm, *(row[2] for row in inside))]


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape, activation, target):
    graph = net(*shape, activation, False, 1)
    check(graph, target)
    assert STRASSEN in algorithms_of(compiled(graph, target))


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_operands_with_halos(shape, target):
    check(net(*shape, "Relu", True, 1), target)


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
def test_a_result_with_a_halo_in_lines_of_whole_tiles(target):
    """Where tiles would cross lines, the convolution is direct."""
    graph = net(64, 64, 14, 14, 1, "Relu", True, 1)
    model = compiled(graph, target)
    node = next(n for n in graph.nodes if n.op.name == "Conv")
    fits = cut(window_of(node), detect(target.partition(":")[2] or None)).within(14)
    assert (STRASSEN in algorithms_of(model)) == fits


def test_lines_of_whole_tiles():
    def halves(m: int, blocks: int, mr: int) -> Halves:
        return Halves(m, blocks, mr, 2, 2, 1, 4)

    assert halves(196, 1, 7).within(14)
    assert halves(784, 4, 7).within(28)
    assert not halves(196, 1, 7).within(10)  # not in a line
    assert not halves(784, 3, 7).within(28)  # blocks begin within a tile
    assert not halves(49, 1, 7).within(7)  # the halves share a row


def test_why_not_with_a_halo():
    model = compiled(net(96, 64, 7, 7, 1, "Relu", True, 1))
    reasons = [s.reason for s in model.plan().steps if s.algorithm == DIRECT]
    assert reasons and all("not strassen: its result has a halo" in reason for reason in reasons)


@pytest.mark.parametrize("images", [2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batches(shape, images):
    check(net(*shape, "Relu", False, images))
    check(net(*shape, "Relu", True, images))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_bits_for_every_number_of_threads(shape):
    graph = net(*shape, "Relu", False, 1)
    one = check(graph)["y"]
    for threads in (2, 3):
        np.testing.assert_array_equal(one, check(graph, threads=threads)["y"])


def test_it_can_be_left_out():
    graph = net(64, 96, 14, 14, 1, "Relu", False, 1)
    model = graphc.compile(graph, disabled=["strassen"])
    (step,) = (s for s in model.plan().steps if "Conv" in s.ops)
    assert step.algorithm == DIRECT
    assert "not strassen: switched off" in step.reason

"""Channels that are removed: the network is the one whose removed channels are zero, and what can't do without them is told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from quantizer.quantized_nets import NETS, Net, data, net

import graphc
from graphc.graph import Graph, Value
from graphc.interpret import run_node
from graphc.pipeline import PORTABLE, run
from graphc.quantizer.placement import is_product, weight_axis
from graphc.shrinker import Channels, ShrunkModel, shrink
from graphc.shrinker.layers import rows, unrows, weights_of
from graphc.verify import verify


def image(b: Net, channels: int = 8) -> Value:
    return b.relu(b.conv(b.image(), channels))


def pools(b: Net) -> Value:
    x = b.add("AveragePool", b.add("Sigmoid", b.conv(b.image(), 8)), kernel_shape=(2, 2), strides=(2, 2), pads=(1,) * 4)
    return b.conv(b.add("MaxPool", b.conv(x, 6), kernel_shape=(3, 3)), 4)


def depthwise(b: Net) -> Value:
    return b.conv(b.relu(b.conv(image(b), 8, group=8)), 4, 1)


def per_channel(b: Net) -> Value:
    """Constants with the channels' axis, of other ranks, and of one element."""
    x = b.add("Mul", b.add("Tanh", b.conv(b.image(), 8)), b.constant(b.rng.uniform(0.5, 1, (8, 1, 1)), np.float32))
    x = b.add("PRelu", x, b.constant(b.rng.uniform(0, 1, (1, 8, 1, 1)), np.float32))
    return b.conv(b.add("Sub", b.constant(0.5, np.float32), x), 4)


def norm(b: Net) -> Value:
    """A batch norm that no layer before it takes."""
    statistics = (b.constant(b.rng.uniform(0.5, 1.5, 8), np.float32) for _ in range(4))
    return b.conv(b.add("BatchNormalization", image(b), *statistics), 4)


def silu(b: Net) -> Value:
    x = b.conv(b.image(), 8)
    return b.conv(b.add("Mul", x, b.add("Sigmoid", x)), 4)


def flat(b: Net) -> Value:
    x = b.add("Flatten", image(b), axis=1)
    x = b.add("Tanh", b.add("Gemm", x, b.weights(512, 16, by=0.1), b.weights(16)))
    return b.add("Gemm", x, b.weights(5, 16), b.weights(1), transB=True)


def mean(b: Net) -> Value:
    x = b.add("ReduceMean", image(b), b.constant([2, 3], np.int64), keepdims=False)
    return b.add("Gemm", x, b.weights(8, 5), b.weights(5))


def last(b: Net) -> Value:
    """Channels behind all others: a block of a transformer, and a Transpose."""
    x = b.add("Transpose", image(b), perm=(0, 2, 3, 1))
    h = b.add("Gelu", b.add("Add", b.add("MatMul", x, b.weights(8, 12)), b.weights(12)))
    return b.add("MatMul", h, b.weights(12, 4))


def masked(b: Net) -> Value:
    x = image(b)
    mask = b.input("mask", np.float32, ("batch", 1, 8, 8))
    return b.conv(b.add("Mul", x, mask), 4)


def both(b: Net) -> Value:
    """Two read them."""
    x = image(b)
    return b.add("Concat", b.conv(x, 4), b.conv(b.add("Abs", x), 3, 1), axis=1)


SMALL: dict[str, Callable[[Net], Value]] = {
    f.__name__: f for f in (pools, depthwise, per_channel, norm, silu, flat, mean, last, masked, both)
}


def build(name: str) -> Graph:
    b = Net()
    y = SMALL[name](b)
    return b.build({"y": y})


def removed(graph: Graph, made: ShrunkModel) -> dict[str, np.ndarray]:
    """The channels with the least norms, by the names of layers: as many as the report says."""
    found = {}
    for node in graph.nodes:
        row = next((r for r in made.report.steps[0].changed if r.name == node.name), None)
        if row is not None:
            left, _, all_of_them = row.made.split()[:3]
            norms = np.linalg.norm(rows(weights_of(node).data, weight_axis(node)), axis=1)
            found[node.name] = np.argsort(norms, kind="stable")[: int(all_of_them) - int(left)]
    return found


def without(graph: Graph, gone: dict[str, np.ndarray], feeds: dict[str, np.ndarray]) -> np.ndarray:
    """What the whole network computes when nobody reads these channels: they are NaN, and so is all that is made of them, up to the
    products that read them, for which NaN is 0."""
    values = {v: feeds[v.name] for v in graph.inputs}
    for node in graph.nodes:
        arrays = [None if v is None else v.data if v.is_const else values[v] for v in node.inputs]
        if is_product(node):
            w, axis = arrays[1], weight_axis(node)
            if node.attrs.get("group", 1) == 1:
                arrays[0] = np.nan_to_num(arrays[0])
            if node.name in gone:
                spoilt = rows(w, axis).copy()
                spoilt[gone[node.name]] = np.nan
                arrays[1] = unrows(spoilt, w.shape, axis)
        values.update(zip(node.outputs, run_node(node, arrays)))
    return values[graph.outputs[0]]


def compared(graph: Graph, part: float) -> ShrunkModel:
    made = shrink(graph, [Channels(part)])
    verify(made.graph)
    whole = run(graph, PORTABLE)
    gone = removed(whole, made)
    feeds = {v.name: data(graph, 2) for v in graph.inputs[:1]}
    feeds |= {
        v.name: np.random.default_rng(3).uniform(0, 1, (2, *v.shape[1:])).astype(np.float32) for v in graph.inputs[1:]
    }
    expected = without(whole, gone, feeds)
    assert np.isfinite(expected).all()
    found = graphc.compile(made.graph, threads=1).run(feeds)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    return made


@pytest.mark.parametrize("name", SMALL)
def test_what_is_left_computes_the_same(name: str):
    made = compared(build(name), 0.4)
    assert made.report.steps[0].changed and made.report.bytes[1] < made.report.bytes[0]


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", NETS)
def test_networks(name: str):
    """Of the quantiser's tests: with residuals, concatenations, gates, attention."""
    compared(net(name), 0.3)


def named(*steps: str) -> Callable[[Net], Value]:
    """A layer of 8 channels, what reads it, and another layer."""

    def made(b: Net) -> Value:
        x = b.image()
        w = b.weights(8, 3, 3, 3)
        y = b.add("Conv", x, w, name="layer")
        if "shared" in steps:
            y = b.add("Add", b.conv(y, 4), b.conv(b.add("Conv", b.relu(x), w), 4))
        elif "residual" in steps:
            y = b.conv(b.add("Add", y, b.add("Conv", x, b.weights(8, 3, 3, 3), name="other")), 4)
        elif "mask" in steps:
            y = b.conv(b.add("Mul", y, b.input("mask", np.float32, ("batch", 8, 6, 6))), 4)
        elif "softmax" in steps:
            y = b.conv(b.add("Softmax", y, axis=1, name="softmax"), 4)
        elif "shuffle" in steps:
            y = b.conv(b.add("DepthToSpace", y, blocksize=2, name="shuffle"), 4)
        elif "groups" in steps:
            y = b.conv(y, 4, group=2)
        elif "mean" in steps:
            y = b.conv(b.add("ReduceMean", y, b.constant([1], np.int64), name="mean"), 4)
        return y

    return made


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("none", "its channels are a result of the model"),
        ("shared", "other nodes read its weights, too"),
        ("residual", "reads them with those of others"),
        ("mask", "reads them with others"),
        ("softmax", "Softmax 'softmax' reads them"),
        ("shuffle", "DepthToSpace 'shuffle' reads them"),
        ("groups", "Conv 'Conv_"),
        ("mean", "ReduceMean 'mean' reads them"),
    ],
)
def test_layers_that_keep_their_channels(steps: str, said: str):
    b = Net()
    graph = b.build({"y": named(steps)(b)})
    made = shrink(graph, [Channels(0.5)])
    (row,) = [row for row in made.report.steps[0].layers if row.name == "layer"]
    assert said in row.kept and row.bytes[0] == row.bytes[1] == 4 * 8 * 27


def test_a_report():
    """Of channels whose norms are 1 to 8, the least three go."""
    b = Net()
    w = np.zeros((8, 3, 1, 1), np.float32)
    w[:, 0, 0, 0] = np.random.default_rng(0).permutation(np.arange(1, 9))
    x = b.add("Conv", b.image(), b.constant(w, np.float32), name="layer")
    made = shrink(b.build({"y": b.conv(x, 4, 1)}), [Channels(0.4)])
    first, second = made.report.steps[0].layers
    assert first.made == "5 of 8 channels" and first.bytes == (96, 60)
    assert first.error == pytest.approx(np.sqrt(1 + 4 + 9) / np.linalg.norm(w))
    assert second.kept == "its channels are a result of the model" and second.bytes == (4 * 32, 4 * 20)


def test_too_few_channels():
    b = Net()
    made = shrink(b.build({"y": b.conv(b.conv(b.image(), 3), 4)}), [Channels(0.3)])
    assert made.report.steps[0].layers[0].kept == "of 3 channels that is none"

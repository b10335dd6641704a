"""How rows are cut into register tiles: rows of every width share a few kernels, and come out right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from targets import offered, require

import graphc
from graphc import pipeline
from graphc.backends.cpu.conv.depthwise import row_tile
from graphc.backends.cpu.conv.window import Window
from graphc.backends.cpu.conv.winograd_groups import groups_of, plan_groups
from graphc.backends.cpu.native import kernel_operators
from graphc.backends.cpu.product.panels import product_tile
from graphc.backends.cpu.stages import STAGES, Draft
from graphc.backends.cpu.target import detect
from graphc.backends.cpu.tile.tile_micro import max_rows
from graphc.backends.cpu.tile.tiles import (
    best_cut,
    cut_into,
    cut_many,
    cut_row,
    even_cut,
    heights_of,
    highest_tile,
    tile_costs,
    without_overlap,
)
from graphc.bind import bind
from graphc.graph import Builder, Graph, Value
from graphc.lower.kernel import Kernel
from graphc.lower.lowered import lowered
from graphc.lower.weights import WeightStore
from graphc.sizes import LOOKED_UP, Trace, is_size, number_of
from graphc.types import TensorType

TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]
ISAS = [t.partition(":")[2] for t in offered("cpu:avx512", "cpu:avx2", "cpu:portable")]


@given(pixels=st.integers(1, 3000), highest=st.integers(1, 14), exact=st.booleans(), data=st.data())
def test_a_cut_covers_the_row(pixels: int, highest: int, exact: bool, data: st.DataObject):
    costs = (0.0, *data.draw(st.lists(st.floats(0.5, 9), min_size=14, max_size=14)))
    cut = cut_into(pixels, heights_of(highest), costs, exact)
    if cut is None:
        lowest = heights_of(highest)[-1]
        assert pixels < lowest or exact
        return
    assert len(cut.counts) == len(cut.heights) and min(cut.counts) >= 0
    assert all(h <= pixels for h, n in zip(cut.heights, cut.counts) if n)  # tiles overlap, but begin in the row
    assert cut.computed == pixels if exact else cut.computed >= pixels
    assert cut.cost == pytest.approx(sum(n * costs[h] for h, n in zip(cut.heights, cut.counts)))


@given(pixels=st.integers(1, 3000), highest=st.integers(1, 14))
def test_little_is_computed_twice(pixels: int, highest: int):
    """Where the cost of a tile is its pixels, a cut costs at most a twentieth more than tiles of the best single height."""
    costs = tuple(map(float, range(15)))
    alike = min(-(-pixels // h) * h for h in range(1, min(highest, pixels) + 1))
    assert best_cut(pixels, highest, costs).cost <= alike / 0.95


@pytest.mark.parametrize("isa", ISAS)
def test_long_rows_share_a_kernel(isa: str):
    target = detect(isa)
    for nv in (1, 2, 3, 4, 6, 8):
        highest = highest_tile(target, nv)
        cuts = [cut_row(target, pixels, nv) for pixels in range(1, 400)]
        if len(heights_of(highest)) > 1:
            assert {c.heights for c in cuts[2 * highest - 1 :]} == {heights_of(highest)}
        assert len({c.heights for c in cuts}) <= highest
        assert len({even_cut(target, pixels, nv).heights for pixels in range(1, 400)}) <= highest


@pytest.mark.parametrize("isa", ISAS)
def test_depthwise_tiles(isa: str):
    """Long rows have tiles of two heights, those of common widths waste little."""
    target = detect(isa)
    most = target.pairs
    assert {row_tile(target, pixels) for pixels in range(4 * most, 1000)} <= {most - 1, most}
    assert len({row_tile(target, pixels) for pixels in range(2 * most, 1000)}) <= 4

    def cost(pixels: int, mr: int) -> int:
        return -(-pixels // mr) * (mr + 2)

    for pixels in (7, 13, 14, 17, 19, 27, 28, 35, 38, 55, 56, 75, 112, 150):
        least = min(cost(pixels, mr) for mr in range(1, min(pixels, most) + 1))
        assert cost(pixels, row_tile(target, pixels)) <= 1.05 * least


def kernels(graph: Graph, shapes: Sequence[tuple[int, ...]], isa: str = ISAS[0]) -> list[set[Kernel]]:
    """What each shape of the first input needs. Nothing is compiled."""
    graph = pipeline.run(graph, pipeline.SHAPE_FREE)
    weights, found = WeightStore(), []
    for shape in shapes:
        bound = bind(graph, {graph.inputs[0].name: TensorType(np.float32, shape)})
        bound = pipeline.run(bound, pipeline.bound(kernel_operators()))
        weights.begin(None)
        found.append(set(lowered(STAGES, Draft(bound, detect(isa), 2, weights)).kernels))
        weights.end()
    return found


def image_net(channels: int = 32, seed: int = 0) -> Graph:
    """Convolutions of all kinds, pools, and a vector at the end, for images of any size."""
    rng, b = np.random.default_rng(seed), Builder("net")
    c = channels

    def conv(x, out: int, per_group: int, kernel: int, **attrs):  # noqa: ANN001, ANN003, ANN202
        w = rng.standard_normal((out, per_group, kernel, kernel)) / (per_group * kernel * kernel) ** 0.5
        pads = [kernel // 2] * 4
        bias = b.constant(rng.standard_normal(out) / 4, np.float32)
        return b.add("Conv", x, b.constant(w, np.float32), bias, pads=pads, **attrs)

    x = b.input("x", np.float32, ("n", 3, "h", "w"))
    few = b.add("Tanh", conv(x, 4, 3, 3))  # planes
    y = b.add("Relu", conv(b.add("Concat", x, few, axis=1), c, 7, 3, strides=[2, 2]))
    y = b.add("Sigmoid", conv(y, c, 1, 3, group=c))  # depthwise
    y = b.add("Add", y, b.add("Relu", conv(y, c, 4, 3, group=c // 4)))  # groups within vectors
    y = b.add("MaxPool", y, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    y = b.add("Relu", conv(y, 3 * c, c, 3))  # may be a Winograd layer
    y = b.add("HardSwish", conv(y, 3 * c, c, 3, group=3))
    y = b.add("Relu", conv(y, 5 * c, 3 * c, 1, strides=[2, 1]))
    y = conv(y, 2 * c, 5 * c, 5)
    return b.build({"y": y, "mean": b.add("ReduceMean", y, b.constant([2, 3], np.int64))})


@pytest.mark.parametrize("isa", ISAS)
def test_new_sizes_of_images_need_few_kernels(isa: str):
    """Few sizes after the third add a kernel: where another Winograd tile is best, or rows waste much in the highest tiles."""
    rng = np.random.default_rng(0)
    sizes = [(int(n), 3, int(h), int(w)) for n, h, w in zip(rng.integers(1, 5, 40), *rng.integers(60, 700, (2, 40)))]
    known: set[Kernel] = set()
    added = []
    for needed in kernels(image_net(), sizes, isa):
        added.append(len(needed - known))
        known |= needed
    assert np.median(added[3:]) == 0 and sum(added[3:]) <= 24, added
    assert sum(added[30:]) <= 4, added


def test_small_images_need_few_kernels():
    """A kernel for each width below that of the highest tile, at most."""
    found = kernels(image_net(), [(1, 3, 2 * h, 2 * w) for h in (1, 4, 9) for w in range(1, 30)])
    names = [k.name for k in set().union(*found)]
    limits = {"conv_row": 120, "depthwise_row": 14, "pool_run": 4, "pool_row": 4, "conv_planes_row": 6}
    assert {n: names.count(n) for n in limits if names.count(n) > limits[n]} == {}


def test_new_lengths_and_batches_need_few_kernels():
    rng = np.random.default_rng(0)
    b = Builder("net")

    def weights(*shape: int) -> Value:
        return b.constant(rng.standard_normal(shape) / 8, np.float32)

    x = b.input("x", np.float32, ("t", "n", 40))
    y = b.add("GRU", x, weights(1, 96, 40), weights(1, 96, 32), hidden_size=32)
    y = b.add(
        "RNN", b.add("Squeeze", y, b.constant([1], np.int64)), weights(1, 24, 32), weights(1, 24, 24), hidden_size=24
    )
    graph = b.build({"y": b.add("MatMul", y, weights(24, 130))})
    found = kernels(graph, [(t, n, 40) for t, n in rng.integers(1, 80, (60, 2)).tolist()])
    names = [k.name for k in set().union(*found)]
    assert names.count("cell_stage") <= 3 * 8 and names.count("product_tile") <= 3 * 2 * 10, names


@pytest.mark.parametrize("height", [5, 16])
@pytest.mark.parametrize("target", TARGETS)
def test_values_of_all_widths(target: str, height: int):
    require(target)
    graph = image_net(16, seed=1)
    model = graphc.compile(graph, target=target, winograd=0 if height == 5 else 6)
    reference = graphc.compile(graph, target="reference")
    rng = np.random.default_rng(0)
    for width in (1, 2, 3, 5, 8, 13, 18, 25, 26, 29, 31, 34, 46, 57, 75):
        x = rng.standard_normal((2, 3, height, width)).astype(np.float32)
        for actual, expected in zip(model.run({"x": x}).values(), reference.run({"x": x}).values()):
            # sums of a few hundred products, rounded in another order
            tolerance = 2e-5 if height == 5 else 1e-4
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("isa", ISAS)
def test_winograd_groups_of_any_size(isa: str):
    for tiles in (*range(1, 70), 100, 1000):
        for out_blocks in range(1, 13):
            g = plan_groups(detect(isa), tiles, 3, out_blocks, 36, 1)
            groups = -(-tiles // g.count)
            left = tiles - (groups - 1) * g.count
            assert out_blocks % g.nv == 0 and g.rows.pixels == g.count and left <= g.rest.pixels <= max(g.count, left)


SIZES_OF_IMAGES = st.tuples(st.integers(2, 9), st.integers(2, 200), st.integers(2, 200))


@given(
    isa=st.sampled_from(ISAS), hint=SIZES_OF_IMAGES, others=st.lists(SIZES_OF_IMAGES, min_size=3, max_size=8),
    is_open=st.tuples(*[st.booleans()] * 3).filter(any), m=st.sampled_from([2, 4, 6]), threads=st.sampled_from([1, 2]),
    blocks=st.tuples(st.sampled_from([1, 4, 32]), st.sampled_from([1, 2, 6, 32])),
)  # fmt: skip
def test_winograd_groups_of_many(
    isa: str,
    hint: tuple[int, int, int],
    others: list[tuple[int, int, int]],
    is_open: tuple[bool, bool, bool],
    m: int,
    threads: int,
    blocks: tuple[int, int],
):
    """Of every size each group is full but the last, and register tiles cover both."""
    target = detect(isa)
    trace = Trace()
    n, h, w = (trace.size(name, s) if o else s for name, s, o in zip("nhw", hint, is_open))
    trace.begin()
    channels, out_channels = (b * target.vl for b in blocks)
    window = Window(
        n, channels, out_channels, (1, h, w), (1, h, w), (1, 3, 3), (1, 1, 1), (1, 1, 1), (0, 1, 1), (0, 1, 1)
    )
    g = groups_of(window, m, target, threads)
    trace.close()
    assert not trace.guards
    for other in [hint, *others]:
        sizes = tuple(s if o else known for s, known, o in zip(other, hint, is_open))
        known = dict(zip("nhw", sizes))
        for name, definition in trace.definitions.items():
            known[name] = definition.value(known)
        kernel, count, parts, rest, *tiles = (
            number_of(v.expr, known) if is_size(v) else v
            for v in (g.kernel, g.count, g.parts, g.rest, *g.rows, *g.rest_rows)
        )
        heights = (*g.kernels[kernel], 0, 0)[:3]
        total = sizes[0] * -(-sizes[1] // m) * -(-sizes[2] // m)
        left = (total - 1) % count + 1
        rows, rest_rows = tiles[:3], tiles[3:]
        assert parts in (1, 2, 4, 8) and 1 <= left <= rest <= max(count, left) and min(tiles) >= 0
        for pixels, counts in ((count, rows), (rest, rest_rows)):
            assert sum(k * c for k, c in zip(heights, counts)) >= pixels
            assert all(k <= pixels for k, c in zip(heights, counts) if c)


@given(pixels=st.integers(2, 600), heights=st.sampled_from([(14, 11, 8), (7, 6, 4), (3, 2), (2,)]), data=st.data())
def test_rows_of_many_without_overlap(pixels: int, heights: tuple[int, ...], data: st.DataObject):
    target = detect(ISAS[0])
    trace = Trace()
    n = trace.size("n", max(pixels, heights[-1]))
    trace.begin()
    exact, is_exact = without_overlap(target, cut_many(n, heights, tile_costs(target, 2)), 2)
    trace.close()
    for other in (pixels, *data.draw(st.lists(st.integers(heights[-1], 600), max_size=5))):
        known = {"n": max(other, heights[-1])}
        for name, definition in trace.definitions.items():
            known[name] = definition.value(known)
        value, *counts = (number_of(v.expr, known) if is_size(v) else v for v in (is_exact, *exact.counts))
        covered = sum(h * c for h, c in zip(heights, counts))
        assert covered >= known["n"] and (not value or covered == known["n"])
        assert known["n"] > LOOKED_UP or bool(value) == (
            cut_into(known["n"], heights, tile_costs(target, 2), True) is not None
        )


@pytest.mark.parametrize("isa", ISAS)
def test_products_have_few_tiles(isa: str):
    target = detect(isa)
    for vectors in range(1, 13):
        tiles = [product_tile(target, rows, vectors) for rows in range(1, 400)]
        assert all(mr <= min(rows, max_rows(target, nv)) for rows, (mr, nv) in enumerate(tiles, 1))
        assert len(set(tiles[30:])) <= 7

"""Both kernels of attention against the reference in float64: about the edges of vectors, tiles and windows, in runs that
look at memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from targets import require

import graphc
from graphc.backends.cpu.attention import attention
from graphc.backends.cpu.attention.attention import FEW, MOST_ROWS, few_rows
from graphc.backends.cpu.target import detect
from graphc.graph import Builder, Graph
from graphc.interpret import run_graph

F32, F64 = np.dtype("float32"), np.dtype("float64")
OPERANDS = ("q", "k", "v", "mask", "lengths")
TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]


def graph_of(shapes: dict[str, tuple[int, ...]], dtype: np.dtype = F32, **attrs: Any) -> Graph:
    b = Builder("attention")
    names = list(OPERANDS)[: max(map(OPERANDS.index, shapes)) + 1]
    values = [b.input(n, np.int64 if n == "lengths" else dtype, shapes[n]) if n in shapes else None for n in names]
    return b.build({"y": b.add("FusedAttention", *values, **attrs)})


def check(
    shapes: dict[str, tuple[int, ...]],
    target: str = "cpu",
    threads: int = 1,
    hidden: float = 0.0,
    lengths: Sequence[int] = (),
    **attrs: Any,
) -> np.ndarray:
    """hidden: the share of the mask that is -inf. lengths: of keys, for each batch. Returns the result."""
    require(target)
    rng = np.random.default_rng(3)
    feeds = {name: rng.uniform(-2, 2, shape).astype(F32) for name, shape in shapes.items()}
    if hidden:
        feeds["mask"][rng.random(feeds["mask"].shape) < hidden] = -np.inf
    if lengths:
        shapes, feeds = {**shapes, "lengths": (len(lengths),)}, {**feeds, "lengths": np.array(lengths)}
        attrs["at_end"] = True
    attrs = {"kv_heads": attrs["heads"], "scale": 0.3, "zeros": True, **attrs}
    model = graphc.compile(graph_of(shapes, **attrs), target=target, threads=threads)
    assert [s.ops for s in model.plan().steps] == [("FusedAttention",)]
    got = model.run(feeds)["y"]
    wide = [a.astype(F64) if a.dtype == F32 else a for a in feeds.values()]
    (want,) = run_graph(graph_of(shapes, F64, **attrs), wide)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * max(1.0, np.nanmax(np.abs(want), initial=0)))
    return got


def shapes_of(
    queries: int, keys: int, heads: int = 2, kv_heads: int = 2, size: int = 16, v_size: int = 16, batch: int = 1
):
    return {
        "q": (batch, heads, queries, size),
        "k": (batch, kv_heads, keys, size),
        "v": (batch, kv_heads, keys, v_size),
    }


@pytest.fixture(params=["memory", ""], ids=["checked", "plain"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CHECK", request.param)


@pytest.fixture(params=[0, 1 << 20], ids=["tiles", "rows"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either, for any number of queries."""
    monkeypatch.setattr(attention, "FEW", request.param)


@pytest.mark.sample(44)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("keys", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100])
def test_keys(keys: int, target: str, kernel, run):
    check(shapes_of(1, keys), target, heads=2)
    check(shapes_of(5, keys), target, heads=2)


@pytest.mark.parametrize("queries", [*range(1, FEW + 3), 17, 30])
def test_queries(queries: int, run):
    check(shapes_of(queries, 21), heads=2)
    check(shapes_of(queries, 21, heads=6), heads=6, kv_heads=2, after=0, at_end=True)


@pytest.mark.sample(24)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size, v_size", [(1, 1), (3, 5), (16, 8), (17, 16), (20, 33), (64, 64), (128, 130), (256, 80)])
def test_sizes(size: int, v_size: int, target: str, kernel, run):
    check(shapes_of(3, 19, size=size, v_size=v_size), target, heads=2)


@pytest.mark.sample(24)
@pytest.mark.parametrize("heads, kv_heads", [(2, 1), (3, 1), (5, 1), (8, 2), (16, 2), (36, 4)])
@pytest.mark.parametrize("queries", [1, 3, 8])
def test_groups(heads: int, kv_heads: int, queries: int, kernel, run):
    shapes = shapes_of(queries, 37, heads, kv_heads, batch=2)
    one = check(shapes, heads=heads, kv_heads=kv_heads, after=1, at_end=True)
    two = check(shapes, threads=3, heads=heads, kv_heads=kv_heads, after=1, at_end=True)
    np.testing.assert_array_equal(one, two)


@pytest.mark.sample(28)
@pytest.mark.parametrize(
    "mask", [(40,), (1, 40), (9, 40), (2, 1, 40), (2, 9, 1), (3, 1, 9, 40), (3, 2, 9, 40)], ids=str
)
@pytest.mark.parametrize("window", [{}, {"after": 0, "at_end": True}, {"before": 12, "after": 2}], ids=str)
def test_masks(mask: tuple[int, ...], window: dict[str, Any], kernel, run):
    shapes = {**shapes_of(9, 40, batch=3), "mask": mask}
    for softcap in (0.0, 0.7):
        check(shapes, heads=2, hidden=0.4, softcap=softcap, **window)


@pytest.mark.sample(84)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("before, after", [(-1, 0), (0, 0), (0, -1), (15, 0), (16, 16), (3, 200), (70, -1)])
@pytest.mark.parametrize("offset", [-200, -20, -1, 0, 1, 16, 33, 200])
def test_windows(before: int, after: int, offset: int, target: str, kernel):
    """Some leave rows of queries, or all of them, without a key."""
    for queries, keys in ((30, 70), (70, 30), (1, 50)):
        check(shapes_of(queries, keys), target, heads=2, before=before, after=after, offset=offset)


@pytest.mark.parametrize("offset", [-20, -1, 0, 33])
def test_windows_touch_nothing_else(offset: int, kernel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    for queries, keys in ((30, 70), (70, 30), (1, 50)):
        check(shapes_of(queries, keys), heads=2, before=17, after=1, offset=offset)
        check({**shapes_of(queries, keys), "mask": (queries, keys)}, heads=2, before=17, after=1, offset=offset)


@pytest.mark.sample(16)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("window", [{}, {"after": 0}, {"before": 12, "after": 0}, {"before": 3, "after": 2}], ids=str)
def test_lengths(window: dict[str, Any], target: str, kernel, run):
    """Of a cache with spare capacity, other in each batch; of 0 keys nothing comes."""
    for queries in (1, 5, 20):
        lengths = (70, 0, 33, 1)
        y = check(shapes_of(queries, 70, batch=4), target, heads=2, lengths=lengths, **window)
        assert not y[1].any() and y[0].all()
    check(
        {**shapes_of(5, 70, 4, batch=2), "mask": (2, 1, 5, 70)}, target, 2, 0.2, (64, 17), heads=4, kv_heads=2, **window
    )


def test_what_lies_behind_the_lengths_is_not_read(kernel):
    shapes = {**shapes_of(20, 70, batch=2), "lengths": (2,)}
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(s).astype(F32) for n, s in shapes.items() if n != "lengths"}
    feeds["lengths"] = np.array([33, 70])
    for name in "kv":
        feeds[name][0, :, 33:] = np.nan
    y = graphc.compile(graph_of(shapes, heads=2, kv_heads=2, at_end=True, zeros=True)).run(feeds)["y"]
    assert np.isfinite(y).all()


def test_chunks_of_a_head_pack_what_they_need():
    """Several threads take chunks of one head out of order, each with keys of its own."""
    shapes = shapes_of(400, 400, heads=1, kv_heads=1)
    results = [check(shapes, threads=n, heads=1, before=50, after=5) for n in (1, 2, 4)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_a_query_without_keys_is_no_number_without_zeros():
    y = check(shapes_of(9, 20), heads=2, after=0, offset=-3, zeros=False)
    assert np.isnan(y[:, :, :3]).all() and np.isfinite(y[:, :, 3:]).all()


@pytest.mark.parametrize("queries", [2, 12])
def test_not_a_number_stays_in_its_row(queries: int):
    rng = np.random.default_rng(0)
    shapes = shapes_of(queries, 20)
    feeds = {n: rng.standard_normal(s).astype(F32) for n, s in shapes.items()}
    feeds["q"][0, 0, 1, 2] = np.nan
    y = graphc.compile(graph_of(shapes, heads=2, kv_heads=2)).run(feeds)["y"]
    assert np.isnan(y[0, 0, 1]).all() and np.isfinite(np.delete(y[0, 0], 1, 0)).all() and np.isfinite(y[0, 1]).all()


def test_heads_behind_the_sequence_and_among_others():
    shapes = {"q": (2, 3, 12, 16), "k": (2, 40, 12, 16), "v": (2, 40, 12, 16)}
    check(shapes, heads=4, kv_heads=4, head_axes=(2, 2, 2, 2), first_heads=(0, 4, 8))
    check(shapes, heads=4, kv_heads=2, head_axes=(2, 2, 2, 1), first_heads=(1, 7, 9), after=0, at_end=True)


def test_lengths_share_their_kernels():
    """Which code a use needs does not follow from how many keys there are."""

    def kernels(queries: int, keys: int) -> set[str]:
        graph = graph_of(shapes_of(queries, keys, v_size=24), heads=2, kv_heads=2, before=40, after=0, zeros=True)
        model = graphc.compile(graph)
        model.prepare({v.name: v.shape for v in graph.inputs})
        (executable,) = model._plans.values()
        return {k.spec for k in executable._plan.kernels}

    for queries in (1, 64):
        assert len({frozenset(kernels(queries, keys)) for keys in (1, 15, 16, 17, 33, 200)}) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_rows_of_a_tile_in_place(target: str):
    """A power of 2 that holds them, if two keys are left to be summed together."""
    require(target)
    machine = detect(target.partition(":")[2] or None)
    most = min(MOST_ROWS, machine.vl // 2)
    assert [few_rows(machine, n) for n in (1, 2, 3, 4, 5, 100)] == [min(n, most) for n in (1, 2, 4, 4, 8, 8)]

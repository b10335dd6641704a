"""Attention on CUDA kernels against the reference in float64: about the edges of tiles and windows, splits of the keys,
what is hidden, in checked runs; and its machine code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suite import check as check_use
from suite import host_reasons, uses_of

import graphc
from graphc.backends.cuda.attention import attention
from graphc.backends.cuda.attention.attention import in_shared, splits_of, tile_of
from graphc.backends.cuda.attention.attention_block import Attention
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.frontends.yaml_load import load_yaml
from graphc.graph import Builder, Graph
from graphc.interpret import run_graph

TARGET = "cuda:emulate"
F32, F64 = np.dtype("float32"), np.dtype("float64")
OPERANDS = ("q", "k", "v", "mask", "lengths")
Shapes = dict[str, tuple[int, ...]]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


@pytest.fixture(params=[1, 4], ids=["whole", "split"])
def splits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys by one block, or by several."""
    monkeypatch.setattr(attention, "splits_of", lambda blocks, tiles: request.param)


@pytest.fixture
def many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of as many rows as there may be."""
    monkeypatch.setattr(attention, "tile_of", lambda heads, rows, size: (64, 32))


def graph_of(shapes: Shapes, dtype: np.dtype = F32, **attrs: Any) -> Graph:
    b = Builder("attention")
    names = list(OPERANDS)[: max(map(OPERANDS.index, shapes)) + 1]
    values = [b.input(n, np.int64 if n == "lengths" else dtype, shapes[n]) if n in shapes else None for n in names]
    return b.build({"y": b.add("FusedAttention", *values, **attrs)})


def check(shapes: Shapes, hidden: float = 0.0, lengths: Sequence[int] = (), **attrs: Any) -> np.ndarray:
    """hidden: the share of the mask that is -inf. lengths: of keys, for each batch. Returns the result."""
    rng = np.random.default_rng(3)
    feeds = {name: rng.uniform(-2, 2, shape).astype(F32) for name, shape in shapes.items()}
    if hidden:
        feeds["mask"][rng.random(feeds["mask"].shape) < hidden] = -np.inf
    if lengths:
        shapes, feeds = {**shapes, "lengths": (len(lengths),)}, {**feeds, "lengths": np.array(lengths)}
        attrs["at_end"] = True
    attrs = {
        "heads": 2,
        "kv_heads": attrs.get("heads", 2),
        "scale": 1.2 * shapes["q"][-1] ** -0.5,
        "zeros": True,
        **attrs,
    }
    model = graphc.compile(graph_of(shapes, **attrs), target=TARGET)
    assert {s.ops for s in model.plan().steps} == {("FusedAttention",)}
    got = model.run(feeds)["y"]
    wide = [a.astype(F64) if a.dtype == F32 else a for a in feeds.values()]
    (want,) = run_graph(graph_of(shapes, F64, **attrs), wide)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * max(1.0, np.nanmax(np.abs(want), initial=0)))
    return got


def shapes_of(
    queries: int, keys: int, heads: int = 2, kv_heads: int = 2, size: int = 16, v_size: int = 16, batch: int = 1
) -> Shapes:
    return {
        "q": (batch, heads, queries, size),
        "k": (batch, kv_heads, keys, size),
        "v": (batch, kv_heads, keys, v_size),
    }


def test_every_case():
    for one in uses_of("FusedAttention"):
        assert not host_reasons(check_use(one, TARGET), one), one


def test_every_case_of_onnx():
    """Those in float64 or with scores that are read become operators of their own."""
    for one in uses_of("Attention"):
        assert not host_reasons(check_use(one, TARGET), one), one


# --- tiles ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("keys", [1, 31, 32, 33, 63, 64, 65, 100])
def test_keys(keys: int, checked, splits):
    for queries in (1, 9):
        check(shapes_of(queries, keys))


@pytest.mark.parametrize("queries", [2, 8, 31, 32, 33, 65])
def test_queries(queries: int, checked):
    check(shapes_of(queries, 37))
    check(shapes_of(queries, 37, heads=6), heads=6, kv_heads=2, after=0, at_end=True)


@pytest.mark.sample(2)
@pytest.mark.parametrize("queries", [31, 64, 65, 130])
def test_tiles_of_many_rows(queries: int, checked, many_rows):
    check({**shapes_of(queries, 70, batch=2), "mask": (2, 1, queries, 70)}, hidden=0.3)
    check(shapes_of(queries, 70, heads=4), heads=4, kv_heads=2, before=40, after=3, offset=-5)


@pytest.mark.sample(2)
@pytest.mark.parametrize("size, v_size", [(1, 3), (17, 33), (64, 96), (256, 250)])
def test_sizes(size: int, v_size: int):
    check(shapes_of(3, 41, size=size, v_size=v_size))


@pytest.mark.sample(1)
@pytest.mark.parametrize("size", [20, 200])
def test_sizes_of_many_queries(size: int, checked):
    check(shapes_of(33, 41, size=size, v_size=size))


def test_larger_heads_and_wide_numbers_are_compiled_in_parts():
    check(shapes_of(9, 17, size=300, v_size=512))
    for graph in (
        graph_of(shapes_of(3, 5, size=600), heads=2, kv_heads=2),
        graph_of(shapes_of(3, 5), F64, heads=2, kv_heads=2),
    ):
        model = graphc.compile(graph, target=TARGET)
        steps = model.plan().steps
        assert "FusedAttention" not in {op for s in steps for op in s.ops} and not any(s.host for s in steps)
        rng = np.random.default_rng(5)
        arrays = [rng.uniform(-1, 1, s.shape).astype(s.dtype) for s in model.inputs]
        (want,) = run_graph(graph, arrays)
        np.testing.assert_allclose(model(*arrays), want, rtol=0, atol=1e-5)


# --- heads ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("heads, kv_heads", [(2, 1), (5, 1), (8, 2), (36, 4)])
@pytest.mark.parametrize("queries", [1, 3, 8])
def test_groups(heads: int, kv_heads: int, queries: int, splits):
    check(shapes_of(queries, 37, heads, kv_heads, batch=2), heads=heads, kv_heads=kv_heads, after=1, at_end=True)


def test_heads_behind_the_sequence_and_among_others(checked):
    shapes = {"q": (2, 3, 12, 16), "k": (2, 40, 12, 16), "v": (2, 40, 12, 16)}
    check(shapes, heads=4, kv_heads=4, head_axes=(2, 2, 2, 2), first_heads=(0, 4, 8))
    check(shapes, heads=4, kv_heads=2, head_axes=(2, 2, 2, 1), first_heads=(1, 7, 9), after=0, at_end=True)


# --- what a query sees ------------------------------------------------------------------------------------------------
@pytest.mark.sample(10)
@pytest.mark.parametrize("mask", [(40,), (9, 40), (2, 1, 40), (2, 9, 1), (3, 1, 9, 40), (3, 2, 9, 40)], ids=str)
@pytest.mark.parametrize("window", [{}, {"after": 0, "at_end": True}, {"before": 12, "after": 2}], ids=str)
def test_masks(mask: tuple[int, ...], window: dict[str, Any], splits):
    shapes = {**shapes_of(9, 40, batch=3), "mask": mask}
    for softcap in (0.0, 0.7):
        check(shapes, hidden=0.4, softcap=softcap, **window)


@pytest.mark.sample(12)
@pytest.mark.parametrize("before, after", [(-1, 0), (0, 0), (0, -1), (16, 16), (3, 200), (70, -1)])
@pytest.mark.parametrize("offset", [-200, -20, -1, 0, 33, 200])
def test_windows(before: int, after: int, offset: int):
    """Some leave rows of queries, or all of them, without a key."""
    for queries, keys in ((40, 70), (70, 40), (1, 50)):
        check(shapes_of(queries, keys), before=before, after=after, offset=offset)


@pytest.mark.sample(2)
@pytest.mark.parametrize("offset", [-20, 0, 33])
def test_windows_touch_nothing_else(offset: int, checked, splits):
    for queries, keys in ((40, 70), (1, 50)):
        check(shapes_of(queries, keys), before=17, after=1, offset=offset)
        check({**shapes_of(queries, keys), "mask": (queries, keys)}, before=17, after=1, offset=offset)


@pytest.mark.parametrize("window", [{}, {"after": 0}, {"before": 12, "after": 0}, {"before": 3, "after": 2}], ids=str)
def test_lengths(window: dict[str, Any], checked, splits):
    """Of a cache with spare capacity, other in each batch; of 0 keys nothing comes."""
    for queries in (1, 20):
        y = check(shapes_of(queries, 70, batch=4), lengths=(70, 0, 33, 1), **window)
        assert not y[1].any() and y[0].all()
    shapes = {**shapes_of(5, 70, 4, batch=2), "mask": (2, 1, 5, 70)}
    check(shapes, 0.2, (64, 17), heads=4, kv_heads=2, **window)


def test_what_lies_behind_the_lengths_is_not_read(splits):
    shapes = {**shapes_of(20, 70, batch=2), "lengths": (2,)}
    feeds = numbers(shapes)
    feeds["lengths"] = np.array([33, 70])
    for name in "kv":
        feeds[name][0, :, 33:] = np.nan
    graph = graph_of(shapes, heads=2, kv_heads=2, at_end=True, zeros=True)
    assert np.isfinite(graphc.compile(graph, target=TARGET).run(feeds)["y"]).all()


def numbers(shapes: Shapes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {n: rng.standard_normal(s).astype(F32) for n, s in shapes.items()}


def test_a_query_without_keys_is_no_number_without_zeros(splits):
    y = check(shapes_of(9, 20), after=0, offset=-3, zeros=False)
    assert np.isnan(y[:, :, :3]).all() and np.isfinite(y[:, :, 3:]).all()
    shapes = {**shapes_of(9, 40), "mask": (9, 1)}
    feeds = numbers(shapes)
    feeds["mask"][4] = -np.inf
    for zeros in (False, True):
        y = graphc.compile(graph_of(shapes, heads=2, kv_heads=2, zeros=zeros), target=TARGET).run(feeds)["y"]
        assert (not y[:, :, 4].any()) if zeros else np.isnan(y[:, :, 4]).all()
        assert np.isfinite(np.delete(y, 4, 2)).all()


@pytest.mark.parametrize("queries", [2, 12])
def test_not_a_number_stays_in_its_row(queries: int, splits):
    shapes = shapes_of(queries, 80)
    feeds = numbers(shapes)
    feeds["q"][0, 0, 1, 2] = np.nan
    y = graphc.compile(graph_of(shapes, heads=2, kv_heads=2), target=TARGET).run(feeds)["y"]
    assert np.isnan(y[0, 0, 1]).all() and np.isfinite(np.delete(y[0, 0], 1, 0)).all() and np.isfinite(y[0, 1]).all()


def test_large_scores_do_not_overflow(splits):
    """Relative to the largest, which comes late or early."""
    shapes = shapes_of(4, 130)
    for order in (1, -1):
        feeds = numbers(shapes)
        feeds["k"][...] = (np.linspace(-60, 60, 130)[::order, None] * np.ones(16)).astype(F32)
        got = graphc.compile(graph_of(shapes, heads=2, kv_heads=2), target=TARGET).run(feeds)["y"]
        (want,) = run_graph(graph_of(shapes, F64, heads=2, kv_heads=2), [feeds[n].astype(F64) for n in "qkv"])
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


# --- models -----------------------------------------------------------------------------------------------------------
def test_a_transformer():
    params = {"layers": 1, "width": 32, "steps": 40}
    cpu, cuda = (
        graphc.compile(
            load_yaml(Path(__file__).parents[2] / "examples/zoo/transformer_encoder.yaml", params), target=target
        )
        for target in ("cpu", TARGET)
    )
    rng = np.random.default_rng(0)
    feeds = {"tokens": rng.integers(0, 1000, (2, 40)), "segments": rng.integers(0, 2, (2, 40))}
    got = cuda.run(feeds)
    for name, want in cpu.run(feeds).items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=2e-5 * np.abs(want).max())
    assert "FusedAttention" in {op for s in cuda.plan({n: a.shape for n, a in feeds.items()}).steps for op in s.ops}


# --- plans and machine code -------------------------------------------------------------------------------------------
def test_splits_of_keys_give_every_multiprocessor_something_to_do():
    assert [splits_of(blocks, 64) for blocks in (1, 32, 131, 132, 500)] == [16, 8, 2, 1, 1]
    assert [splits_of(1, tiles) for tiles in (1, 7, 8, 4000)] == [1, 1, 2, 264]
    model = graphc.compile(graph_of(shapes_of(1, 4096, size=64, v_size=64), heads=2, kv_heads=2), target=TARGET)
    assert [s.kernel.partition("[")[0].partition("(")[0] for s in model.plan().steps][-1].startswith("attention_sums")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "arch, size, heads", [((9, 0), 64, 132), ((9, 0), 64, 1), ((9, 0), 256, 1), ((8, 0), 128, 132)]
)
def test_registers_are_enough(arch: tuple[int, int], size: int, heads: int):
    made = cubin_of(Attention(in_shared(size), in_shared(size), *tile_of(heads, 4096 if heads > 1 else 1, size)), arch)
    assert not made.spilled and not made.stack
    assert made.dynamic <= 99 << 10  # of every GPU since 8.0

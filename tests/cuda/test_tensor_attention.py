"""Attention of half precision on tensor cores, in checked runs, against the reference in float64 of the same rounded operands: about the
edges of tiles, windows and heads, what is hidden, where operands lie; how it is fused and chosen; its machine code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from many_sizes import for_many
from sass import instructions, of_kind, waits_of
from suite import OPS, as_inputs, host_reasons, uses_of
from suite import check as check_use

import graphc
from graphc import classes
from graphc.backends.cuda.attention import attention, tensor_attention
from graphc.backends.cuda.attention.attention_block import KeyTile, TensorAttention
from graphc.backends.cuda.attention.costs import Problem, best
from graphc.backends.cuda.attention.tensor_attention import TILES, in_shared, tiles_of
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.backends.cuda.codegen.figures import card_of
from graphc.graph import Builder, Graph, Value
from graphc.interpret import run_graph
from graphc.types import dtype_from_name

TARGET = "cuda:emulate"
F64 = np.dtype("float64")
OPERANDS = ("q", "k", "v", "mask", "lengths")
# Powers and results are rounded once each, by at most this part of themselves: so is the result, as a part of the largest value
HALF = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
FLOATS = 0.1  # of that, for scores, powers and sums in float32, and powers too small for float16's digits
EVERY_TILE = [(size, tile) for size, tiles in TILES.items() for tile in dict.fromkeys(tiles)]
CHEAP = EVERY_TILE[:5]
SMALL = KeyTile(16, 64, 1, 4, 3, 4)
MIDDLE = KeyTile(64, 64, 4, 1, 2, 3)
FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, copies that nobody waits for, and accesses out of bounds are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


@pytest.fixture(params=[1, 3], ids=["whole", "split"])
def splits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys by one block, or by several, of which some may have none."""
    monkeypatch.setattr(attention, "splits_of", lambda blocks, tiles: request.param)


@pytest.fixture(params=[SMALL, MIDDLE], ids=["keys shared by warps", "rows shared by warps"])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> KeyTile:
    only(monkeypatch, request.param)
    return request.param


def only(monkeypatch: pytest.MonkeyPatch, tile: KeyTile) -> None:
    """The one tile that there is now."""
    monkeypatch.setattr(tensor_attention, "tiles_of", lambda size, masked: (tile,))


def graph_of(shapes: Shapes, dtype: np.dtype, **attrs: Any) -> Graph:
    b = Builder("attention")
    names = list(OPERANDS)[: max(map(OPERANDS.index, shapes)) + 1]
    values = [b.input(n, np.int64 if n == "lengths" else dtype, shapes[n]) if n in shapes else None for n in names]
    return b.build({"y": b.add("FusedAttention", *values, **attrs)})


def shapes_of(
    queries: int, keys: int, heads: int = 2, kv_heads: int = 2, size: int = 16, v_size: int = 16, batch: int = 1
) -> Shapes:
    kv = (batch, kv_heads, keys)
    return {"q": (batch, heads, queries, size), "k": (*kv, size), "v": (*kv, v_size)}


def numbers(shapes: Shapes, dtype: str = "float16", hidden: float = 0.0) -> dict[str, np.ndarray]:
    """hidden: the share of the mask that is -inf."""
    rng = np.random.default_rng(3)
    feeds = {n: rng.uniform(-2, 2, s).astype(dtype_from_name(dtype)) for n, s in shapes.items() if n != "lengths"}
    if hidden:
        feeds["mask"][rng.random(feeds["mask"].shape) < hidden] = -np.inf
    return feeds


def run(shapes: Shapes, feeds: dict[str, np.ndarray], dtype: str = "float16", **attrs: Any) -> np.ndarray:
    """What the kernel gives, compared with the reference."""
    model = graphc.compile(graph_of(shapes, dtype_from_name(dtype), **attrs), target=TARGET)
    first, *others = model.plan().steps
    assert first.algorithm.startswith("tensor cores, tiles of ") and {s.ops for s in others} <= {("FusedAttention",)}
    assert len(others) == ("parts" in first.algorithm)
    got = model.run(feeds)["y"]
    assert got.dtype == dtype_from_name(dtype)
    wide = [a if a.dtype.kind == "i" else a.astype(F64) for a in feeds.values()]
    with np.errstate(all="ignore"):
        (want,) = run_graph(graph_of(shapes, F64, **attrs), wide)
    largest = np.nanmax(np.abs(feeds["v"].astype(F64)))
    np.testing.assert_allclose(got.astype(F64), want, rtol=0, atol=(2 + FLOATS) * HALF[dtype] * largest)
    return got.astype(F64)


def check(
    shapes: Shapes, hidden: float = 0.0, lengths: Sequence[int] = (), dtype: str = "float16", **attrs: Any
) -> np.ndarray:
    """lengths: of keys, for each batch."""
    feeds = numbers(shapes, dtype, hidden)
    if lengths:
        shapes, feeds = {**shapes, "lengths": (len(lengths),)}, {**feeds, "lengths": np.array(lengths)}
        attrs["at_end"] = True
    heads = attrs.get("heads", shapes["q"][1])
    given = {"heads": heads, "kv_heads": shapes["k"][1], "scale": 1.2 * shapes["q"][-1] ** -0.5, "zeros": True}
    return run(shapes, feeds, dtype, **{**given, **attrs})


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["FusedAttention", "Attention"])
def test_every_case(name: str, dtype: str):
    """Of Attention, those whose scores are read, or whose softmax is of another precision, become operators of their own."""
    assert dtype in OPS[name].samples.dtypes or name == "Attention"
    for one in map(as_inputs, uses_of(name, [dtype])):
        assert not host_reasons(check_use(one, TARGET), one), one


@pytest.mark.sample(2)
@pytest.mark.parametrize("form", ["Where", "Add"])
@pytest.mark.parametrize("dtype", HALF)
def test_rows_of_which_all_is_hidden_by_the_lowest_number(dtype: str, form: str):
    """They are means of all values, as in the graph, where it leaves nothing of the scores: neither NaN nor a softmax."""
    kind, feeds = dtype_from_name(dtype), numbers(shapes_of(4, 70), dtype)
    low = {"float16": -65504.0, "bfloat16": -3.3895313892515355e38}[dtype]
    seen = np.ones((1, 1, 4, 70), bool)
    seen[:, :, 1], seen[:, :, 2, 4:] = False, False
    b = Builder("masked")
    q, k, v = (b.input(n, kind, a.shape) for n, a in feeds.items())
    there, hidden = b.input("seen", np.bool_, seen.shape), b.constant(low, kind)
    scores = b.add("MatMul", q, b.add("Transpose", k, perm=(0, 1, 3, 2)))
    if form == "Where":
        scores = b.add("Where", there, scores, hidden)
    else:
        scores = b.add("Add", scores, b.add("Where", there, b.constant(0, kind), hidden))
    graph = b.build({"y": b.add("MatMul", b.add("Softmax", scores, axis=-1), v)})
    model = graphc.compile(graph, target=TARGET)
    assert "tensor cores" in model.plan().steps[-1].algorithm and model.plan().steps[-1].ops == ("FusedAttention",)
    got, values = model.run({**feeds, "seen": seen})["y"].astype(F64), feeds["v"].astype(F64)
    np.testing.assert_allclose(got[:, :, 1], values.mean(2), rtol=0, atol=2 * HALF[dtype])
    one = model.run({**feeds, "seen": np.concatenate([seen[..., :4], seen[..., 4:] & False], -1)})["y"].astype(F64)
    np.testing.assert_array_equal(got[:, :, 2], one[:, :, 2])


# --- tiles ------------------------------------------------------------------------------------------------------------
@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "size, own", [pytest.param(*t, marks=[] if t in CHEAP else pytest.mark.slow) for t in EVERY_TILE], ids=str
)
def test_sizes_around_the_edges_of_tiles(monkeypatch: pytest.MonkeyPatch, size: int, own: KeyTile):
    """Of fewer keys than there are stages, of as many, and of more; of rows of one warp, of some, and of two tiles."""
    only(monkeypatch, own)
    for keys in (1, 15, own.keys - 1, own.keys, own.keys + 1, 2 * own.keys + 8, 4 * own.keys):
        check(shapes_of(9, keys, 1, 1, size, size))
    for queries in (1, 8, 16, 17, own.rows - 1, own.rows, own.rows + 1):
        check(shapes_of(queries, own.keys + 9, 2, 1, size, size), after=0, at_end=True)


@pytest.mark.sample(4)
@pytest.mark.parametrize("keys", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("dtype", HALF)
def test_splits_of_keys(dtype: str, keys: int, tile: KeyTile, splits):
    check(shapes_of(9, keys, 4, 2), dtype=dtype)
    check(shapes_of(70, keys), dtype=dtype, before=30, after=5)


@pytest.mark.sample(2)
@pytest.mark.parametrize("size, v_size", [(8, 8), (24, 40), (80, 80), (64, 16), (96, 160)])
def test_heads_of_whole_chunks(size: int, v_size: int):
    """Lines of other lengths in shared memory, some filled up with zeros."""
    check(shapes_of(20, 70, size=size, v_size=v_size))


@pytest.mark.sample(2)
@pytest.mark.parametrize("size, v_size", [(1, 3), (17, 33), (20, 36), (18, 34)])
def test_heads_of_other_sizes(size: int, v_size: int, splits):
    """Copies of 8 and 4 bytes ahead, and of single elements."""
    check(shapes_of(20, 70, size=size, v_size=v_size))


@pytest.mark.slow
@pytest.mark.parametrize("size, v_size", [(256, 250), (250, 256), (255, 7)])
def test_large_heads(size: int, v_size: int):
    check(shapes_of(20, 40, size=size, v_size=v_size))
    check(shapes_of(3, 70, size=size, v_size=v_size))


def test_larger_heads_are_computed_in_float32():
    graph = graph_of(shapes_of(3, 5, size=264), np.dtype("float16"), heads=2, kv_heads=2)
    model = graphc.compile(graph, target=TARGET)
    steps = model.plan().steps
    assert {op for s in steps for op in s.ops} == {"Cast", "FusedAttention", "RoundTo"}
    assert not any(s.host for s in steps)
    rng = np.random.default_rng(5)
    arrays = [rng.uniform(-1, 1, s.shape).astype(s.dtype) for s in model.inputs]
    (want,) = run_graph(graph, arrays)
    got = model(*arrays).astype(F64)
    np.testing.assert_allclose(got, want.astype(F64), rtol=0, atol=2**-9)  # the reference is in float16, too


# --- heads ------------------------------------------------------------------------------------------------------------
@pytest.mark.sample(4)
@pytest.mark.parametrize("heads, kv_heads, queries", [(5, 1, 3), (8, 2, 1), (36, 4, 8), (4, 2, 33)])
def test_groups(heads: int, kv_heads: int, queries: int, splits):
    check(shapes_of(queries, 70, heads, kv_heads, batch=2), after=1, at_end=True)


def test_heads_behind_the_sequence_and_among_others():
    shapes = {"q": (2, 3, 12, 16), "k": (2, 40, 12, 16), "v": (2, 40, 12, 16)}
    check(shapes, heads=4, kv_heads=4, head_axes=(2, 2, 2, 2), first_heads=(0, 4, 8))
    check(shapes, heads=4, kv_heads=2, head_axes=(2, 2, 2, 1), first_heads=(1, 7, 9), after=0, at_end=True)


# --- scores -----------------------------------------------------------------------------------------------------------
@pytest.mark.sample(3)
@pytest.mark.parametrize("scale", [-0.3, 0.0, 3.0])
def test_scales(scale: float, splits):
    check(shapes_of(9, 70), scale=scale, before=40, after=20)
    check({**shapes_of(9, 70), "mask": (70,)}, hidden=0.3, scale=scale, softcap=1.3)


@pytest.mark.sample(6)
@pytest.mark.parametrize("mask", [(40,), (9, 40), (2, 1, 40), (2, 9, 1), (3, 1, 9, 40), (3, 2, 9, 40)], ids=str)
@pytest.mark.parametrize("window", [{}, {"after": 0, "at_end": True}, {"before": 12, "after": 2}], ids=str)
def test_masks(mask: tuple[int, ...], window: dict[str, Any]):
    for softcap in (0.0, 0.7):
        check({**shapes_of(9, 40, batch=3), "mask": mask}, hidden=0.4, softcap=softcap, **window)


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("keys", [63, 65, 66, 130])
def test_masks_of_odd_and_even_rows(dtype: str, keys: int, tile: KeyTile, splits):
    """By elements, or by pairs of them."""
    check({**shapes_of(70, keys), "mask": (70, keys)}, hidden=0.3, dtype=dtype)


@pytest.mark.sample(4)
@pytest.mark.parametrize("before, after", [(-1, 0), (0, 0), (0, -1), (16, 16), (3, 200), (70, -1)])
def test_windows(before: int, after: int, tile: KeyTile):
    """Some leave rows of queries, or all of them, without a key; tiles of keys that nobody sees are left out."""
    for offset in (-200, -20, -1, 0, 33, 200):
        for queries, keys in ((40, 70), (70, 40), (1, 150)):
            check(shapes_of(queries, keys), before=before, after=after, offset=offset)


@pytest.mark.sample(3)
@pytest.mark.parametrize("window", [{}, {"after": 0}, {"before": 12, "after": 0}, {"before": 3, "after": 2}], ids=str)
def test_lengths(window: dict[str, Any], splits):
    """Of a cache with spare capacity, other in each batch; of 0 keys nothing comes."""
    for queries in (1, 20):
        y = check(shapes_of(queries, 70, batch=4), lengths=(70, 0, 33, 1), **window)
        assert not y[1].any() and y[0].all()
    check({**shapes_of(5, 70, 4, 2, batch=2), "mask": (2, 1, 5, 70)}, 0.2, (64, 17), **window)


@pytest.mark.sample(2)
def test_what_lies_behind_the_lengths_is_not_read(tile: KeyTile, splits):
    shapes = {**shapes_of(20, 70, batch=2), "lengths": (2,)}
    feeds = numbers(shapes) | {"lengths": np.array([33, 70])}
    for name in "kv":
        feeds[name][0, :, 33:] = np.nan
    graph = graph_of(shapes, np.dtype("float16"), heads=2, kv_heads=2, at_end=True, zeros=True)
    assert np.isfinite(graphc.compile(graph, target=TARGET).run(feeds)["y"]).all()


def test_a_query_without_keys_is_no_number_without_zeros(splits):
    y = check(shapes_of(9, 20), after=0, offset=-3, zeros=False)
    assert np.isnan(y[:, :, :3]).all() and np.isfinite(y[:, :, 3:]).all()
    shapes = {**shapes_of(9, 40), "mask": (9, 1)}
    feeds = numbers(shapes)
    feeds["mask"][4] = -np.inf
    for zeros in (False, True):
        y = run(shapes, feeds, heads=2, kv_heads=2, zeros=zeros)
        assert (not y[:, :, 4].any()) if zeros else np.isnan(y[:, :, 4]).all()
        assert np.isfinite(np.delete(y, 4, 2)).all()


@pytest.mark.sample(2)
def test_not_a_number_stays_in_its_row(tile: KeyTile, splits):
    shapes = shapes_of(12, 80)
    feeds = numbers(shapes)
    feeds["q"][0, 0, 1, 2] = np.nan
    y = run(shapes, feeds, heads=2, kv_heads=2)
    assert np.isnan(y[0, 0, 1]).all() and np.isfinite(np.delete(y[0, 0], 1, 0)).all() and np.isfinite(y[0, 1]).all()


@pytest.mark.sample(2)
def test_large_scores_do_not_overflow(tile: KeyTile, splits):
    """Relative to the largest, which comes late or early: sums so far are scaled by warps of which some rows grow, and some don't.
    Scores of 30000 would be infinite where they are rounded to float16 before they are scaled."""
    shapes = shapes_of(4, 130)
    for order in (1, -1):
        feeds = numbers(shapes)
        feeds["k"][...] = np.linspace(-60, 60, 130)[::order, None]
        run(shapes, feeds, heads=2, kv_heads=2)
        feeds["q"][...], feeds["k"][0, 0] = 250, feeds["k"][0, 0] * 4
        run(shapes, feeds, heads=2, kv_heads=2, scale=1e-3)


@FEW
@given(st.data())
def test_features_together(monkeypatch: pytest.MonkeyPatch, data: st.DataObject):
    draw = data.draw
    only(monkeypatch, draw(st.sampled_from([SMALL, MIDDLE])))
    parts = draw(st.sampled_from([1, 2, 5]))
    monkeypatch.setattr(attention, "splits_of", lambda blocks, tiles: parts)
    edges = st.sampled_from([1, 2, 7, 16, 17, 63, 64, 65, 90, 129])
    queries, keys, batch = draw(edges), draw(edges), draw(st.integers(1, 2))
    kv_heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    shapes = shapes_of(queries, keys, kv_heads * group, kv_heads, batch=batch)
    if draw(st.booleans()):
        every = (batch, kv_heads * group, queries, keys)
        shapes["mask"] = tuple(draw(st.sampled_from([1, n])) for n in every)
    lengths = draw(st.lists(st.integers(0, keys), min_size=batch, max_size=batch)) if draw(st.booleans()) else ()
    attrs = {
        "before": draw(st.sampled_from([-1, -1, 0, 20, 64])), "after": draw(st.sampled_from([-1, -1, 0, 9])),
        "softcap": draw(st.sampled_from([0.0, 0.0, 1.5])), "offset": draw(st.sampled_from([0, 0, -9, 40])),
        "at_end": draw(st.booleans()),
    }  # fmt: skip
    check(shapes, 0.3 if "mask" in shapes else 0.0, lengths, draw(st.sampled_from([*HALF])), **attrs)


# --- graphs -----------------------------------------------------------------------------------------------------------
def pattern(dtype: str, hidden: bool = False, wide: bool = False) -> Graph:
    """softmax(q kᵀ / 4 + mask) v of heads split off a projection, as exporters write it. wide: the softmax in float32."""
    kind, b = dtype_from_name(dtype), Builder("net")

    def heads(name: str) -> Value:
        x = b.add("Reshape", b.input(name, kind, (2, 40, 48)), b.constant([2, 40, 3, 16], np.int64))
        return b.add("Transpose", x, perm=(0, 2, 1, 3))

    q, k, v = map(heads, "qkv")
    scores = b.add("Div", b.add("MatMul", q, b.add("Transpose", k, perm=(0, 1, 3, 2))), b.constant(4.0, kind))
    if hidden:  # by the lowest number of the dtype
        lowest = -65504.0 if dtype == "float16" else -1e38
        scores = b.add("Add", scores, b.constant(np.where(np.tri(40), 0, lowest), kind))
    if wide:
        scores = b.add("Cast", scores, to="float32")
    weights = b.add("Softmax", scores, axis=-1)
    if wide:
        weights = b.add("Cast", weights, to=dtype)
    y = b.add("Transpose", b.add("MatMul", weights, v), perm=(0, 2, 1, 3))
    return b.build({"y": b.add("Reshape", y, b.constant([2, 40, 48], np.int64))})


@pytest.mark.sample(3)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("dtype", HALF)
def test_patterns_are_one_step(dtype: str, hidden: bool, wide: bool):
    feeds = numbers(dict.fromkeys("qkv", (2, 40, 48)), dtype)
    model = graphc.compile(pattern(dtype, hidden, wide), target=TARGET)
    (step,) = model.plan().steps
    assert step.ops == ("FusedAttention",) and "tiles of" in step.algorithm and "µs on H100 by the model" in step.reason
    (want,) = run_graph(pattern("float64", hidden), [feeds[n].astype(F64) for n in "qkv"])
    got = model.run(feeds)["y"].astype(F64)
    np.testing.assert_allclose(got, want, rtol=0, atol=(2 + FLOATS) * HALF[dtype] * 2)


@pytest.mark.parametrize("dtype", HALF)
def test_others_keep_the_graph_as_it_is(dtype: str):
    """Heads that are too large for it, and dtypes that nobody fuses."""
    steps = graphc.compile(pattern("float64"), target=TARGET).plan().steps
    assert "FusedAttention" not in {op for s in steps for op in s.ops}
    b, kind = Builder("net"), dtype_from_name(dtype)
    q, k, v = (b.input(n, kind, (1, 2, 8, 272)) for n in "qkv")
    graph = b.build({"y": b.add("Attention", q, k, v)})
    ops = {op for s in graphc.compile(graph, target=TARGET).plan().steps for op in s.ops}
    assert ops == {"Cast", "FusedAttention", "RoundTo"}  # in float32


@pytest.mark.parametrize("mask", ["bool", "float32", None])
def test_onnx_attention(mask: str | None):
    """Masks of other dtypes become the elements'."""
    b, kind = Builder("net"), np.dtype("float16")
    q, k, v = (b.input(n, kind, (1, 2, 20, 16)) for n in "qkv")
    given = [] if mask is None else [b.input("mask", np.dtype(mask), (20, 20))]
    graph = b.build({"y": b.add("Attention", q, k, v, *given, is_causal=True)})
    feeds = numbers(dict.fromkeys("qkv", (1, 2, 20, 16)))
    if mask is not None:
        feeds["mask"] = (np.random.default_rng(0).random((20, 20)) < 0.7).astype(mask)
    model = graphc.compile(graph, target=TARGET)
    assert model.plan().steps[-1].ops == ("FusedAttention",)
    got, want = model.run(feeds)["y"], run_graph(graph, [*feeds.values()])[0]
    np.testing.assert_allclose(got.astype(F64), want.astype(F64), rtol=0, atol=(3 + FLOATS) * HALF["float16"] * 2)


# --- choices ----------------------------------------------------------------------------------------------------------
def test_the_model_of_costs():
    """Tiles of many rows for many queries, of few for few, and many small ones where the GPU would be idle."""
    card = card_of((9, 0))

    def chosen(heads: int, rows: int, keys: int, size: int = 64, masked: bool = False) -> KeyTile:
        problem = Problem(heads, rows, keys, size, size)
        return best(card, problem, [(t, 1) for t in tiles_of(size, masked)]).tile

    for size in (64, 128):
        few, middle, many, masked = TILES[size]
        assert chosen(512, 4096, 4096, size) == many and chosen(512, 4096, 4096, size, True) == masked
        assert chosen(8, 8, 4096, size) == chosen(4, 64, 64, size) == few
        assert chosen(512, 64, 1024, size) == middle


def test_one_plan_for_many_sizes(monkeypatch: pytest.MonkeyPatch):
    """Batches, queries and keys from few to some tiles."""
    monkeypatch.delenv("GRAPHC_CHECK")  # in checked runs every plan is for its sizes alone
    monkeypatch.setattr(classes, "STRICT", True)
    half, b = np.dtype("float16"), Builder("net")
    q = b.input("q", half, ("batch", 2, "queries", 16))
    k, v = (b.input(n, half, ("batch", 2, "keys", 16)) for n in "kv")
    mask = b.input("mask", half, ("queries", "keys"))
    attrs = {"heads": 2, "kv_heads": 2, "scale": 0.25, "before": 100, "at_end": True, "zeros": True}
    model, many = graphc.compile(b.build({"y": b.add("FusedAttention", q, k, v, mask, **attrs)}), target=TARGET), None
    for batch, queries, keys in ((2, 20, 33), (4, 3, 5), (3, 70, 64), (5, 40, 200), (2, 9, 131)):
        shapes = {**shapes_of(queries, keys, batch=batch), "mask": (queries, keys)}
        arrays = [*numbers(shapes, hidden=0.2).values()]
        many = many or for_many(model, arrays)
        assert many.holds(arrays), many.refusal(arrays)
        (want,) = run_graph(graph_of(shapes, F64, **attrs), [a.astype(F64) for a in arrays])
        got = many.run(arrays)[0].astype(F64)
        np.testing.assert_allclose(got, want, rtol=0, atol=(2 + FLOATS) * HALF["float16"] * 2)


# --- machine code -----------------------------------------------------------------------------------------------------
def kernels() -> list[TensorAttention]:
    """Of each tile for whole heads, with what takes most registers: a softcap, and a mask where there is one."""
    found = {}
    for size, (*plain, masked) in TILES.items():
        for tile in plain:
            found[size, tile, 0, False] = None
        for tile, mask, capped in ((masked, 1, False), (masked, 2, True), (plain[0], 2, True), (plain[1], 1, False)):
            found[size, tile, mask, capped] = None
    return [
        TensorAttention("bfloat16", tile, in_shared(size), in_shared(size), 16, 16, 16, 8, False, mask, capped)
        for size, tile, mask, capped in found
    ]


@pytest.mark.sample(3)
@pytest.mark.parametrize("arch", [(8, 0), pytest.param((9, 0, "a"), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("kernel", kernels(), ids=str)
def test_machine_code(kernel: TensorAttention, arch: tuple[Any, ...]):
    cubin = cubin_of(kernel, arch)
    found, tile = instructions(cubin), kernel.tile
    assert (cubin.spilled, cubin.stack, of_kind(found, r"(LDL|STL).*")) == (0, 0, {})
    assert tile.blocks * tile.threads * (-(-cubin.registers // 8) * 8) <= 1 << 16
    assert cubin.dynamic + cubin.shared <= 99 << 10  # of every GPU since 8.0
    own_rows, own_keys = tile.rows // tile.down, tile.keys // tile.across
    products = own_rows // 16 * own_keys // 8 * (kernel.depth // 16) + own_rows // 16 * own_keys // 16 * (
        kernel.columns // 8
    )
    assert of_kind(found, "HMMA.*") == {"HMMA.16816.F32.BF16": products}
    # keys as they lie, values transposed, queries once, or for each tile of keys
    assert found["LDSM.16.M88.4"] == kernel.depth // 16 * (own_keys // 16 + own_rows // 16)
    assert found["LDSM.16.MT88.4"] == own_keys // 16 * kernel.columns // 16
    copied = tile.keys * (kernel.depth + kernel.columns) // 8 // tile.threads
    own = tile.rows * kernel.depth // 8 // tile.threads  # of queries, which may be a loop
    assert copied < found["LDGSTS.E.BYPASS.128.ZFILL"] == of_kind(found, "LDGSTS.*").total() <= copied + own
    assert waits_of(cubin) == [tile.stages - 2, 0]
    assert of_kind(found, r"STG\..*") == {"STG.E.128": 1}
    assert of_kind(found, r"(LD|ST)\.E.*|ATOM\..*") == {}

"""Attention as one operator: which ways of writing it are found, which must not be, and what the kernel makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from passcheck import F32, build, ints, refused, rewritten, weights
from targets import require

import graphc
from graphc.graph import Builder, Graph, Node, Value
from graphc.interpret import interpret
from graphc.passes.fuse_attention import fuse_attention
from graphc.types import dtype_from_name

BATCH, HEADS, LENGTH, SIZE = 2, 3, 7, 4
BY_SEQUENCE = (0, 2, 1, 3)


def number(b: Builder, value: float) -> Value:
    return b.constant(value, F32)


def heads(b: Builder, name: str, length: int = LENGTH) -> Value:
    return b.input(name, F32, (BATCH, HEADS, length, SIZE))


def attention(b: Builder, q: Value, k: Value, v: Value, change=lambda b, scores: scores, axis: int = -1) -> Value:
    """softmax(change(q kᵀ)) v."""
    rank = len(k.shape)
    scores = b.add("MatMul", q, b.add("Transpose", k, perm=(*range(rank - 2), rank - 1, rank - 2)), name="scores")
    return b.add("MatMul", b.add("Softmax", change(b, scores), axis=axis, name="weights"), v, name="y")


def of_heads(change=lambda b, scores: scores, **kwargs) -> Graph:
    return build(lambda b: attention(b, heads(b, "q"), heads(b, "k"), heads(b, "v"), change, **kwargs))


def fused(graph: Graph) -> Node:
    """The one FusedAttention that the pass makes of all products and softmaxes."""
    after = rewritten(fuse_attention, graph)
    assert not {"MatMul", "Softmax", "Attention"} & {n.op.name for n in after.nodes}
    (node,) = [n for n in after.nodes if n.op.name == "FusedAttention"]
    return node


def operators(graph: Graph) -> list[str]:
    return [n.op.name for n in rewritten(fuse_attention, graph).nodes]


# --- what is found ----------------------------------------------------------------------------------------------------
def test_plain():
    node = fused(of_heads())
    assert (node.attrs["scale"], node.attrs["head_axes"], len(node.inputs)) == (1.0, (1, 1, 1, 1), 3)
    assert operators(of_heads()) == ["FusedAttention"]


def projection(parts: str) -> Graph:
    """Heads out of one projection [batch, length, 3 · heads · size], the result merged again."""

    def make(b):
        width = HEADS * SIZE
        x = b.input("x", F32, (BATCH, LENGTH, 3 * width))
        if parts == "Split":
            cut = b.add("Split", x, ints(b, width, width, width), axis=2, outputs=3)
        else:
            cut = [b.add("Slice", x, ints(b, i * width), ints(b, (i + 1) * width), ints(b, -1)) for i in range(3)]
        apart = [b.add("Reshape", p, ints(b, 0, 0, HEADS, SIZE)) for p in cut]
        q, v = (b.add("Transpose", apart[i], perm=BY_SEQUENCE) for i in (0, 2))
        kt = b.add("Transpose", apart[1], perm=(0, 2, 3, 1))
        scores = b.add("MatMul", b.add("Mul", q, number(b, 0.5)), kt)
        y = b.add("MatMul", b.add("Softmax", scores), v)
        return b.add("Reshape", b.add("Transpose", y, perm=BY_SEQUENCE), ints(b, 0, 0, -1))

    return build(make)


@pytest.mark.parametrize("parts", ["Split", "Slice"])
def test_heads_of_one_projection_are_read_where_they_are(parts):
    node = fused(projection(parts))
    assert set(operators(projection(parts))) == {"Reshape", "FusedAttention"}
    assert node.inputs[0].shape == (BATCH, LENGTH, 3 * HEADS, SIZE)
    assert node.attrs["head_axes"] == (2, 2, 2, 2)
    assert node.attrs["first_heads"] == (0, HEADS, 2 * HEADS)
    assert node.attrs["scale"] == 0.5


def test_columns_that_are_no_whole_heads_are_copied():
    def make(b):
        x = b.input("x", F32, (BATCH, LENGTH, 2 + HEADS * SIZE))
        part = b.add("Slice", x, ints(b, 2), ints(b, 100), ints(b, 2))
        q = b.add("Transpose", b.add("Reshape", part, ints(b, 0, 0, HEADS, SIZE)), perm=BY_SEQUENCE)
        return attention(b, q, heads(b, "k"), heads(b, "v"))

    assert fused(build(make)).attrs["first_heads"] == (0, 0, 0)
    assert "Slice" in operators(build(make))


def test_three_axes():
    def make(b):
        q, k, v = (b.input(n, F32, (HEADS, LENGTH, SIZE)) for n in "qkv")
        return attention(b, q, k, v)

    assert fused(build(make)).output.shape == (1, HEADS, LENGTH, SIZE)


def test_three_axes_with_the_sequence_first():
    def make(b):
        q, k, v = (b.add("Transpose", b.input(n, F32, (LENGTH, HEADS, SIZE)), perm=(1, 0, 2)) for n in "qkv")
        return attention(b, q, k, v)

    assert fused(build(make)).attrs["head_axes"] == (2, 2, 2, 1)
    assert "Transpose" not in operators(build(make))


def test_keys_that_come_transposed():
    def make(b):
        kt = b.input("kt", F32, (BATCH, HEADS, SIZE, LENGTH))
        scores = b.add("MatMul", heads(b, "q"), kt)
        return b.add("MatMul", b.add("Softmax", scores), heads(b, "v"))

    fused(build(make))


SCALES = {
    "product": (lambda b, s: b.add("Mul", s, number(b, 0.25)), 0.25),
    "quotient": (lambda b, s: b.add("Div", s, number(b, 8.0)), 0.125),
    "both": (lambda b, s: b.add("Mul", b.add("Div", s, number(b, 8.0)), number(b, 2.0)), 0.25),
}


@pytest.mark.parametrize("where", SCALES)
def test_scale_of_the_scores(where):
    change, scale = SCALES[where]
    assert fused(of_heads(change)).attrs["scale"] == scale


def test_scale_of_queries_and_keys():
    def make(b):
        q = b.add("Mul", heads(b, "q"), number(b, 0.5))
        kt = b.add("Mul", b.add("Transpose", heads(b, "k"), perm=(0, 1, 3, 2)), number(b, 0.25))
        return b.add("MatMul", b.add("Softmax", b.add("MatMul", q, kt)), heads(b, "v"))

    assert fused(build(make)).attrs["scale"] == 0.125


@pytest.mark.parametrize("shape", [(LENGTH,), (1, 1, 1, LENGTH), (LENGTH, LENGTH), (BATCH, HEADS, LENGTH, 1)], ids=str)
def test_mask(shape):
    scaled = SCALES["product"][0]
    first = of_heads(lambda b, s: b.add("Add", b.input("mask", F32, shape), scaled(b, s)))
    second = of_heads(lambda b, s: b.add("Add", scaled(b, s), b.input("mask", F32, shape)))
    for graph in (first, second):
        node = fused(graph)
        assert node.inputs[3].name == "mask" and node.attrs["scale"] == 0.25


def test_two_masks_are_added_first():
    def change(b, s):
        bias = b.input("bias", F32, (HEADS, LENGTH, LENGTH))
        return b.add("Add", b.add("Add", s, bias), b.input("mask", F32, (BATCH, 1, 1, LENGTH)))

    assert fused(of_heads(change)).inputs[3].shape == (BATCH, HEADS, LENGTH, LENGTH)


@pytest.mark.parametrize("hidden_where_true", [True, False])
def test_scores_replaced_by_a_number_are_masked(hidden_where_true):
    lower = np.tril(np.ones((LENGTH, LENGTH), bool))

    def change(b, s):
        hidden = number(b, -np.inf)
        if hidden_where_true:
            return b.add("Where", b.constant(~lower), hidden, s)
        return b.add("Where", b.constant(lower), s, hidden)

    node = fused(of_heads(change))
    assert len(node.inputs) == 3 and node.attrs["after"] == 0


WINDOWS = {
    "causal": (lambda ahead: ahead <= 0, (-1, 0, 0)),
    "behind a cache": (lambda ahead: ahead <= 2, (-1, 0, 2)),
    "sliding": (lambda ahead: (ahead <= 1) & (ahead > -3), (3, 0, 1)),
    "later ones": (lambda ahead: ahead >= -1, (0, -1, -1)),
    "all": (lambda ahead: ahead < 100, (-1, -1, 0)),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_constant_masks_that_are_windows(name):
    sees, want = WINDOWS[name]
    seen = sees(np.arange(LENGTH) - np.arange(LENGTH)[:, None])
    mask = np.where(seen, 0, np.finfo(F32).min).astype(F32)

    def change(b, s):
        return b.add("Add", b.add("Add", s, b.constant(mask[None, None])), b.input("bias", F32, (LENGTH, LENGTH)))

    node = fused(of_heads(change))
    assert node.inputs[3].name == "bias" and tuple(node.attrs[n] for n in ("before", "after", "offset")) == want


@pytest.mark.parametrize("change", ["a row of nothing", "a hole", "a number", "by head"])
def test_constant_masks_that_are_no_windows(change):
    mask = np.where(np.tri(LENGTH, dtype=bool), 0, -np.inf).astype(F32)
    if change == "a row of nothing":
        mask[2] = -1e35
    elif change == "a hole":
        mask[4, 2] = -np.inf
    elif change == "a number":
        mask[4, 2] = -1e4
    else:
        mask = np.stack([mask] * HEADS)
    node = fused(of_heads(lambda b, s: b.add("Add", s, b.constant(mask))))
    assert node.inputs[3].shape == mask.shape and node.attrs["after"] == -1


# --- what must stay ---------------------------------------------------------------------------------------------------
def test_softmax_along_another_axis():
    assert "another axis" in refused(fuse_attention, of_heads(axis=2))


@pytest.mark.parametrize("shown", ["scores", "weights"])
def test_a_result_in_between_stays(shown):
    def make(b):
        y = attention(b, heads(b, "q"), heads(b, "k"), heads(b, "v"))
        return y, next(n.output for n in b.nodes if n.name == shown)

    assert f"'{shown}' is a result or read by others" in refused(fuse_attention, build(make))


def test_scores_that_are_read_twice_stay():
    def make(b):
        y = attention(b, heads(b, "q"), heads(b, "k"), heads(b, "v"), SCALES["product"][0])
        return y, b.add("Relu", next(n.output for n in b.nodes if n.name == "scores"))

    assert "'scores' is a result or read by others" in refused(fuse_attention, build(make))


def test_scores_under_a_mask_that_are_read_twice_stay():
    def make(b):
        mask = b.input("mask", F32, (LENGTH,))
        y = attention(b, heads(b, "q"), heads(b, "k"), heads(b, "v"), lambda b, s: b.add("Add", s, mask))
        return y, b.add("Relu", next(n.output for n in b.nodes if n.name == "scores"))

    assert "'scores' is a result or read by others" in refused(fuse_attention, build(make))


def test_a_mask_that_enlarges_the_scores():
    def make(b):
        q, k, v = (b.input(n, F32, (1, HEADS, LENGTH, SIZE)) for n in "qkv")
        mask = b.input("mask", F32, (BATCH, 1, LENGTH, LENGTH))
        return attention(b, q, k, v, lambda b, s: b.add("Add", s, mask))

    assert "larger than the scores" in refused(fuse_attention, build(make))


def test_hidden_scores_that_still_count():
    condition = np.arange(LENGTH) > 2

    def change(b, s):
        return b.add("Where", b.constant(condition), number(b, -1e4), s)

    assert "not a number of -1e+30 or less" in refused(fuse_attention, of_heads(change))


def test_keys_for_every_batch():
    def make(b):
        k, v = (b.input(n, F32, (1, HEADS, LENGTH, SIZE)) for n in "kv")
        return attention(b, heads(b, "q"), k, v)

    assert "differ in batch or heads" in refused(fuse_attention, build(make))


def test_values_of_two_axes():
    def make(b):
        v = b.input("v", F32, (LENGTH, SIZE))
        return attention(b, heads(b, "q"), heads(b, "k"), v)

    assert "4 and 2 axes" in refused(fuse_attention, build(make))


def test_another_dtype():
    def make(b):
        q, k, v = (b.input(n, np.float64, (BATCH, HEADS, LENGTH, SIZE)) for n in "qkv")
        return attention(b, q, k, v)

    assert "not in float32" in refused(fuse_attention, build(make))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("operator", [False, True])
def test_half_precision_where_the_backend_has_a_kernel(dtype, operator):
    kind = dtype_from_name(dtype)

    def make(b):
        q, k, v = (b.input(n, kind, (BATCH, HEADS, LENGTH, SIZE)) for n in "qkv")
        return b.add("Attention", q, k, v) if operator else attention(b, q, k, v)

    graph = build(make)
    assert f"no kernel for it in {dtype}" in refused(fuse_attention, graph)
    asked = []
    made = replace(fuse_attention, accepts=lambda node: not asked.append(node))(graph)
    (node,) = (n for n in made.nodes if n.op.name == "FusedAttention")
    assert [n.op.name for n in asked] == ["FusedAttention"] and node.output.dtype == kind


def test_hidden_scores_of_float16():
    """Its lowest number hides, one of a thousand does not."""

    def make(hidden):
        def of(b):
            q, k, v = (b.input(n, np.float16, (BATCH, HEADS, LENGTH, SIZE)) for n in "qkv")
            mask = np.where(np.tri(LENGTH, dtype=bool), 0, hidden).astype(np.float16)
            return attention(b, q, k, v, lambda b, s: b.add("Add", s, b.constant(mask)))

        return replace(fuse_attention, accepts=lambda node: True)(build(of))

    causal, masked = (next(n for n in make(h).nodes if n.op.name == "FusedAttention") for h in (-65504, -1000))
    assert (causal.attrs["after"], len(causal.inputs)) == (0, 3)
    assert (masked.attrs["after"], len(masked.inputs)) == (-1, 4)


@pytest.mark.parametrize("between", ["Relu", "Mul"])
def test_no_product_before_the_softmax(between):
    def make(b):
        x = b.input("x", F32, (BATCH, HEADS, LENGTH, LENGTH))
        x = b.add("Relu", x) if between == "Relu" else b.add("Mul", x, number(b, 2.0))
        return b.add("MatMul", b.add("Softmax", x), heads(b, "v"))

    assert refused(fuse_attention, build(make)) == ""


def test_factors_that_are_no_numbers_stay_in_front():
    def make(b):
        q = b.add("Mul", heads(b, "q"), weights(b, SIZE))
        return attention(b, q, heads(b, "k"), heads(b, "v"))

    assert operators(build(make)) == ["Mul", "FusedAttention"]


def test_a_result_in_both_orders_is_transposed():
    def make(b):
        y = attention(b, heads(b, "q"), heads(b, "k"), heads(b, "v"))
        return y, b.add("Transpose", y, perm=BY_SEQUENCE)

    assert operators(build(make)) == ["FusedAttention", "Transpose"]


# --- ONNX's operator --------------------------------------------------------------------------------------------------
def onnx_attention(mask: Value | None = None, flat: bool = False, outputs: int = 1, **attrs) -> Graph:
    def make(b):
        shape = (BATCH, LENGTH, HEADS * SIZE) if flat else (BATCH, HEADS, LENGTH, SIZE)
        q, k, v = (b.input(n, F32, shape) for n in "qkv")
        counts = {"q_num_heads": HEADS, "kv_num_heads": HEADS} if flat else {}
        given = [] if mask is None else [b.input("mask", mask[0], mask[1])]
        y = b.add("Attention", q, k, v, *given, outputs=outputs, **counts, **attrs)
        return y if outputs == 1 else list(y)

    return build(make)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "mask, attrs",
    [
        (None, {}),
        (None, {"is_causal": True, "scale": 0.7}),
        ((bool, (LENGTH, LENGTH)), {}),
        ((F32, (BATCH, 1, 1, LENGTH)), {"is_causal": True}),
        (None, {"left_window_size": 2, "right_window_size": 0}),
    ],
    ids=str,
)
def test_onnx_attention(mask, attrs, flat):
    node = fused(onnx_attention(mask, flat, **attrs))
    assert node.attrs["scale"] == pytest.approx(attrs.get("scale", SIZE**-0.5))
    assert node.attrs["zeros"] == bool(mask)  # each query of these windows sees itself
    after = 0 if attrs.get("is_causal") else attrs.get("right_window_size", -1)
    assert (node.attrs["before"], node.attrs["after"]) == (attrs.get("left_window_size", -1), after)
    assert node.attrs["head_axes"] == ((2,) * 4 if flat else (1,) * 4)


@pytest.mark.parametrize(
    "graph, reason",
    [
        (onnx_attention(softmax_precision=np.float64), "another precision"),
        (onnx_attention(outputs=4), "its scores are read"),
        (onnx_attention((F32, (LENGTH, LENGTH - 2))), "shorter than the keys"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_onnx_attention_with_more(graph, reason):
    assert reason in refused(fuse_attention, graph)


@pytest.mark.parametrize("kv_heads", [1, HEADS])
def test_onnx_attention_of_one_projection(kv_heads):
    """Queries, keys and values as parts of one value, which has the heads of all three."""

    def make(b):
        sizes = [HEADS * SIZE, kv_heads * SIZE, kv_heads * SIZE]
        q, k, v = b.add("Split", b.input("x", F32, (BATCH, LENGTH, sum(sizes))), ints(b, *sizes), axis=2, outputs=3)
        return b.add("Attention", q, k, v, is_causal=True, q_num_heads=HEADS, kv_num_heads=kv_heads)

    node = fused(build(make))
    assert (node.attrs["heads"], node.attrs["kv_heads"]) == (HEADS, kv_heads)
    assert node.attrs["first_heads"] == (0, HEADS, HEADS + kv_heads)


def test_onnx_attention_gives_its_keys_and_values():
    graph = onnx_attention(flat=True, outputs=3)
    assert operators(graph).count("FusedAttention") == 1 and "Concat" not in operators(graph)


@pytest.mark.parametrize("flat", [False, True])
def test_a_cache_is_joined_and_read(flat):
    def make(b):
        shape = (BATCH, 2, 4 * SIZE) if flat else (BATCH, 4, 2, SIZE)
        kv = (BATCH, 2, 2 * SIZE) if flat else (BATCH, 2, 2, SIZE)
        past = [b.input(f"past_{n}", F32, (BATCH, 2, LENGTH, SIZE)) for n in "kv"]
        counts = {"q_num_heads": 4, "kv_num_heads": 2} if flat else {}
        q, k, v = b.input("q", F32, shape), b.input("k", F32, kv), b.input("v", F32, kv)
        return list(b.add("Attention", q, k, v, None, *past, is_causal=True, outputs=3, **counts))

    node = fused(build(make))
    assert operators(build(make)).count("Concat") == 2
    names = ("kv_heads", "after", "at_end", "offset", "zeros")
    assert [node.attrs[n] for n in names] == [2, 0, True, 0, False]


def test_a_cache_of_which_a_part_is_used():
    def make(b):
        q, k = b.input("q", F32, (BATCH, HEADS, 2, SIZE)), heads(b, "k")
        lengths = b.constant(np.array([LENGTH, 3]))
        return b.add("Attention", q, k, heads(b, "v"), None, None, None, lengths, is_causal=True)

    node = fused(build(make))
    assert operators(build(make)) == ["Within", "FusedAttention"]
    assert (node.attrs["at_end"], node.attrs["after"], node.attrs["zeros"]) == (True, 0, True)


@pytest.mark.parametrize("inner, outer", [("Div", 3.0), ("Mul", 1 / 3)])
def test_softcap(inner, outer):
    def change(b, s):
        s = b.add("Mul", s, number(b, 0.5))
        return b.add("Mul", b.add("Tanh", b.add(inner, s, number(b, outer))), number(b, 3.0))

    node = fused(of_heads(lambda b, s: b.add("Add", change(b, s), b.input("mask", F32, (LENGTH,)))))
    assert node.attrs["softcap"] == 3.0 and node.attrs["scale"] == pytest.approx(0.5)
    assert fused(onnx_attention(softcap=2.0)).attrs["softcap"] == 2.0


def repeated(b: Builder, x: Value, times: int) -> Value:
    """As exporters write it."""
    batch, n_heads, length, size = x.shape
    spread = b.add("Expand", b.add("Unsqueeze", x, ints(b, 2)), ints(b, batch, n_heads, times, length, size))
    return b.add("Reshape", spread, ints(b, batch, n_heads * times, length, size))


def test_repeated_heads_are_read_once():
    def make(b, times=3):
        k, v = (b.input(n, F32, (BATCH, 2, LENGTH, SIZE)) for n in "kv")
        return attention(b, b.input("q", F32, (BATCH, 6, LENGTH, SIZE)), repeated(b, k, 3), repeated(b, v, 3))

    assert operators(build(make)) == ["FusedAttention"]
    node = fused(build(make))
    assert (node.attrs["heads"], node.attrs["kv_heads"]) == (6, 2)


def test_heads_that_are_repeated_otherwise_are_copied():
    def make(b):
        k, v = (b.input(n, F32, (BATCH, n_heads, LENGTH, SIZE)) for n, n_heads in (("k", 2), ("v", 3)))
        return attention(b, b.input("q", F32, (BATCH, 6, LENGTH, SIZE)), repeated(b, k, 3), repeated(b, v, 2))

    assert fused(build(make)).attrs["kv_heads"] == 6


# --- the kernel -------------------------------------------------------------------------------------------------------
def compare(graph: Graph, feeds: dict[str, np.ndarray], target: str = "cpu", threads: int = 1) -> list[np.ndarray]:
    require(target)
    model = graphc.compile(graph, target=target, threads=threads)
    assert any(s.ops[0] == "FusedAttention" for s in model.plan().steps)
    got = list(model.run(feeds).values())
    for a, b in zip(got, interpret(graph, feeds).values()):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, np.nanmax(np.abs(b), initial=0)))
    return got


def sized(batch: int, n_heads: int, queries: int, keys: int, size: int, mask: tuple | None = None) -> Graph:
    def make(b):
        q = b.input("q", F32, (batch, n_heads, queries, size))
        k, v = (b.input(n, F32, (batch, n_heads, keys, size)) for n in "kv")
        change = (lambda b, s: b.add("Add", s, b.input("mask", F32, mask))) if mask else (lambda b, s: s)
        return attention(b, q, k, v, change)

    return build(make)


def feeds_of(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize(
    "sizes", [(1, 2, 1, 5, 8), (2, 2, 3, 16, 16), (1, 1, 33, 17, 35), (2, 3, 13, 64, 64), (1, 1, 50, 1, 1)], ids=str
)
def test_sizes(sizes, target):
    graph = sized(*sizes)
    compare(graph, feeds_of(graph), target)


def test_many_heads_and_few_are_the_same_bits_for_every_number_of_threads():
    for sizes in ((1, 1, 70, 40, 32), (2, 12, 20, 20, 16)):
        graph = sized(*sizes)
        feeds = feeds_of(graph)
        one, two, five = (compare(graph, feeds, threads=n)[0] for n in (1, 2, 5))
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, five)


def test_scores_far_apart():
    graph = sized(1, 1, 20, 20, 16)
    feeds = feeds_of(graph)
    compare(graph, {**feeds, "q": feeds["q"] * 300})


def test_not_a_number_stays_in_its_row():
    graph = sized(1, 1, 20, 20, 16)
    feeds = feeds_of(graph)
    feeds["q"][0, 0, 3, 2] = np.nan
    y = compare(graph, feeds)[0]
    assert np.isnan(y[0, 0, 3]).all() and np.isfinite(np.delete(y, 3, 2)).all()


def test_a_query_that_sees_nothing():
    graph = sized(1, 2, 20, 20, 16, mask=(20, 20))
    feeds = feeds_of(graph)
    feeds["mask"][5] = -np.inf
    y = compare(graph, feeds)[0]
    assert np.isnan(y[0, :, 5]).all() and np.isfinite(np.delete(y, 5, 2)).all()
    causal = onnx_attention((bool, (LENGTH, LENGTH)))
    feeds = feeds_of(causal)
    feeds["mask"] = np.arange(LENGTH)[:, None] != np.zeros((1, LENGTH))
    assert not compare(causal, feeds)[0][:, :, 0].any()


def test_no_keys_run_on_the_host():
    graph = sized(1, 2, 3, 0, 4)
    model = graphc.compile(graph, threads=1)
    assert all(s.ops[0] != "FusedAttention" for s in model.plan().steps)

"""com.microsoft's attention against formulas, and over the steps of a session."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import graphc

RNG = np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model(op: str, inputs: dict, outputs: tuple[str, ...], **attrs) -> graphc.Model:
    """One node. inputs: (dtype, dims) by name; '' names an operand that is absent."""
    node = helper.make_node(op, list(inputs), outputs, domain="com.microsoft", **attrs)
    given = [helper.make_tensor_value_info(k, *v) for k, v in inputs.items() if v]
    results = [helper.make_tensor_value_info(o, 1, None) for o in outputs]
    graph = helper.make_graph([node], "g", given, results)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return graphc.compile(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(), threads=1)


def attention(q, k, v, seen):
    """softmax(q kᵀ / √size) v over the keys that are seen: [heads, sequence, size] each."""
    scores = np.where(seen, q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]), -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ v


def heads(x: np.ndarray, n: int) -> np.ndarray:
    return x.reshape(len(x), n, -1).swapaxes(0, 1)


@pytest.mark.parametrize("queries", [1, 3, 6, 9])
def test_the_last_query_of_a_causal_use_sees_every_key(queries: int):
    q, k, v = floats(1, queries, 8), floats(1, 6, 8), floats(1, 6, 8)
    types = {"q": (1, q.shape), "k": (1, k.shape), "v": (1, v.shape)}
    got = model("MultiHeadAttention", types, ("y",), num_heads=2, unidirectional=1).run({"q": q, "k": k, "v": v})["y"]
    rows = np.arange(queries)[:, None]
    seen = (np.arange(6) <= rows) | (rows == queries - 1)
    want = attention(*(heads(x[0], 2) for x in (q, k, v)), seen).swapaxes(0, 1).reshape(1, queries, 8)
    np.testing.assert_allclose(got, want, atol=2e-6)


CACHE = {"q": (1, [1, "s", 32]), "k": (1, [1, "s", 16]), "v": (1, [1, "s", 16])}


def grouped(dims: list, **attrs) -> graphc.Model:
    types = {**CACHE, "pk": (1, dims), "pv": (1, dims), "last": (6, [1]), "total": (6, [])}
    return model("GroupQueryAttention", types, ("y", "rk", "rv"), num_heads=4, kv_num_heads=2, **attrs)


@pytest.mark.parametrize("room", [None, 12])
def test_steps_of_a_cache_that_grows_or_has_room_are_one_pass_over_the_whole(room: int | None):
    q, k, v = floats(1, 9, 32), floats(1, 9, 16), floats(1, 9, 16)
    whole = attention(
        heads(q[0], 4),
        *(np.repeat(heads(x[0], 2), 2, 0) for x in (k, v)),
        np.tril(np.ones((9, 9), bool)) & ~np.tril(np.ones((9, 9), bool), -4),
    )
    m = grouped([1, 2, room or "p", 8], local_window_size=4)
    past, at, rows = [np.zeros((1, 2, room or 0, 8), np.float32)] * 2, 0, []
    for count in (4, 1, 1, 2, 1):
        part = {n: x[:, at : at + count] for n, x in (("q", q), ("k", k), ("v", v))}
        at += count
        scalars = {"last": np.array([at - 1], np.int32), "total": np.array(at, np.int32)}
        y, *past = m.run({**part, "pk": past[0], "pv": past[1], **scalars}).values()
        rows.append(y[0])
    np.testing.assert_allclose(np.concatenate(rows), whole.swapaxes(0, 1).reshape(9, 32), atol=2e-6)
    np.testing.assert_array_equal(past[0][0, :, :9], heads(k[0], 2))
    assert not past[0][0, :, 9:].any()
    assert 1 <= len(m.classes) <= 3  # plans for all lengths: of one query, of more, and of a prompt


def test_a_cache_says_which_length_it_has_no_room_for():
    m = grouped([1, 2, 12, 8])
    feeds = {"q": floats(1, 1, 32), "k": floats(1, 1, 16), "v": floats(1, 1, 16)}
    feeds |= {"pk": floats(1, 2, 12, 8), "pv": floats(1, 2, 12, 8), "total": np.array(7, np.int32)}
    for last in (12, -1):
        with pytest.raises(graphc.GraphcError, match="out of range"):
            m.run({**feeds, "last": np.array([last], np.int32)})


def test_sessions_append_in_place():
    types = {x: (1, ["b", "s", 16]) for x in "qkv"} | {"": None}
    node = ["q", "k", "v", "", "", "", "pk", "pv"]
    cache = (
        helper.make_tensor_value_info("pk", 1, ["b", 2, "p", 8]),
        helper.make_tensor_value_info("pv", 1, ["b", 2, "p", 8]),
    )
    made = helper.make_node("MultiHeadAttention", node, ["y", "rk", "rv"], domain="com.microsoft", num_heads=2)
    given = [helper.make_tensor_value_info(k, *v) for k, v in types.items() if v]
    graph = helper.make_graph(
        [made],
        "g",
        [*given, *cache],
        [
            helper.make_tensor_value_info(o, 1, ["b", "s", 16] if o == "y" else ["b", 2, "t", 8])
            for o in ("y", "rk", "rv")
        ],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    m = graphc.compile(data)
    session, past = m.session(), [np.zeros((1, 2, 0, 8), np.float32)] * 2
    for count in (3, 1, 1, 1):
        feeds = {x: floats(1, count, 16) for x in "qkv"}
        want = m.run({**feeds, "pk": past[0], "pv": past[1]})
        past = [want["rk"], want["rv"]]
        np.testing.assert_allclose(session.run(feeds)["y"], want["y"], atol=2e-6)
    assert session.lengths == {"pk": 6, "pv": 6}


@pytest.mark.parametrize("shape", [(2, 0, 8), (0, 3, 8)])
@pytest.mark.parametrize("op", ["Attention", "MultiHeadAttention"])
def test_attention_of_nothing_is_nothing(op: str, shape: tuple[int, ...]):
    operands = {"x": floats(*shape), "w": floats(8, 24), "b": floats(24)}
    if op == "MultiHeadAttention":
        operands = {n: floats(*shape) for n in "qkv"}
    types = {n: (1, a.shape) for n, a in operands.items()}
    assert model(op, types, ("y",), num_heads=2).run(operands)["y"].shape == shape

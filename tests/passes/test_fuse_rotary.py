"""Rotary position embedding as exporters write it: what is found, what must stay, and what the steps make of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from passcheck import F32, build, ints, left, refused, rewritten

import graphc
from graphc.graph import Builder, Graph, Value
from graphc.interpret import interpret
from graphc.passes.fuse_rotary import fuse_rotary

BATCH, HEADS, LENGTH, SIZE = 2, 3, 5, 8
BY_SEQUENCE = (0, 2, 1, 3)


def halves(b: Builder, x: Value, at: int = SIZE // 2) -> list[Value]:
    ends = (0, at, 1 << 40)
    return [b.add("Slice", x, ints(b, ends[i]), ints(b, ends[i + 1]), ints(b, -1)) for i in range(2)]


def split(b: Builder, x: Value) -> list[Value]:
    return list(b.add("Split", x, ints(b, SIZE // 2, SIZE // 2), axis=3, outputs=2))


def written_out(b: Builder, x: Value, parts: Callable = halves, table: tuple[int, ...] = (1, 1, LENGTH, SIZE)) -> Value:
    cos, sin = b.input("cos", F32, table), b.input("sin", F32, table)
    first, second = parts(b, x)
    turned = b.add("Concat", b.add("Neg", second), first, axis=-1)
    return b.add("Add", b.add("Mul", x, cos), b.add("Mul", turned, sin), name="rotated")


def heads(b: Builder) -> Value:
    return b.input("x", F32, (BATCH, HEADS, LENGTH, SIZE))


@pytest.mark.parametrize("parts", [halves, split])
def test_written_out(parts: Callable):
    assert left(fuse_rotary, build(lambda b: written_out(b, heads(b), parts))) == ["FusedRotary"]


@pytest.mark.parametrize("table", [(LENGTH, SIZE), (BATCH, 1, LENGTH, SIZE), (BATCH, HEADS, LENGTH, SIZE)], ids=str)
def test_tables(table: tuple[int, ...]):
    assert left(fuse_rotary, build(lambda b: written_out(b, heads(b), table=table)))[-1] == "FusedRotary"


def test_a_transposition_before_it_is_a_way_to_read():
    def make(b):
        x = b.input("x", F32, (BATCH, LENGTH, HEADS, SIZE))
        return written_out(b, b.add("Transpose", x, perm=BY_SEQUENCE))

    after = rewritten(fuse_rotary, build(make))
    assert [n.op.name for n in after.nodes] == ["FusedRotary"] and after.nodes[0].attrs["transposed"]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_onnx_operator(flat: bool, positions: bool):
    def make(b):
        x = b.input("x", F32, (BATCH, LENGTH, HEADS * SIZE)) if flat else heads(b)
        shape = (9, SIZE // 2) if positions else (BATCH, LENGTH, SIZE // 2)
        tables = [b.input(n, F32, shape) for n in ("cos", "sin")]
        ids = [b.constant(np.arange(BATCH * LENGTH).reshape(BATCH, LENGTH) % 9)] if positions else []
        return b.add("RotaryEmbedding", x, *tables, *ids, **({"num_heads": HEADS} if flat else {}))

    after = left(fuse_rotary, build(make))
    assert "FusedRotary" in after and not {"RotaryEmbedding", "Mul", "Transpose"} & set(after)


# --- what must stay ---------------------------------------------------------------------------------------------------
def test_parts_that_are_no_halves():
    def parts(b, x):
        return halves(b, x, SIZE // 4)

    assert refused(fuse_rotary, build(lambda b: written_out(b, heads(b), parts))) == ""


def test_halves_of_another_value():
    def parts(b, x):
        return halves(b, b.add("Relu", x))

    assert refused(fuse_rotary, build(lambda b: written_out(b, heads(b), parts))) == ""


def test_halves_that_are_exchanged():
    def parts(b, x):
        return halves(b, x)[::-1]

    assert refused(fuse_rotary, build(lambda b: written_out(b, heads(b), parts))) == ""


def test_tables_of_one_column():
    graph = build(lambda b: written_out(b, heads(b), table=(1, 1, LENGTH, 1)))
    assert "no element for each of a head" in refused(fuse_rotary, graph)


def test_neighbours():
    def make(b):
        tables = [b.input(n, F32, (BATCH, LENGTH, SIZE // 2)) for n in ("cos", "sin")]
        return b.add("RotaryEmbedding", heads(b), *tables, interleaved=True)

    assert "neighbours" in refused(fuse_rotary, build(make))


# --- the steps --------------------------------------------------------------------------------------------------------
def check(graph: Graph, steps: int) -> None:
    model = graphc.compile(graph)
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.uniform(-1, 1, v.shape).astype(F32) for v in graph.inputs}
    assert [s.ops for s in model.plan().steps] == [("FusedRotary",)] * steps
    for got, want in zip(model.run(feeds).values(), interpret(graph, feeds).values()):
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("check_memory", ["", "memory"])
@pytest.mark.parametrize("size", [2, 6, 16, 62, 64, 128])
def test_sizes(size: int, check_memory: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", check_memory)

    def make(b, width, rotary=0):
        x = b.input("x", F32, (BATCH, HEADS, LENGTH, width))
        tables = [b.input(n, F32, (BATCH, LENGTH, size // 2)) for n in ("cos", "sin")]
        return b.add("RotaryEmbedding", x, *tables, rotary_embedding_dim=rotary)

    check(build(lambda b: make(b, size)), 2)
    check(build(lambda b: make(b, size + 5, size)), 3)

"""Loops whose states change their shapes: trips are counted by the host, and what a trip computes is compiled."""

from __future__ import annotations

import numpy as np
import pytest
from controls import loop
from nets import agree
from targets import offered

import graphc
from graphc.backends.reference import run as reference
from graphc.errors import GraphcError
from graphc.graph import Builder, Graph, Value
from graphc.held_programs import FEW, HeldPrograms
from graphc.model import Model

F32 = np.float32


def weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (8, 8)).astype(F32)


def attending(b: Builder, x: Value, n: Value) -> Value:
    """A row more in each trip, made of all rows so far; the matrix is captured."""

    def body(i: Builder, turn: Value, going: Value, rows: Value, w: Value) -> list[Value]:
        mixed = i.add(
            "MatMul", i.add("Softmax", i.add("MatMul", rows, i.add("Transpose", rows))), i.add("MatMul", rows, w)
        )
        last = i.add("Gather", mixed, i.constant([-1], np.int64), axis=0)
        return [going, i.add("Concat", rows, i.add("Tanh", last), axis=0)]

    return loop(b, n, None, [x], [b.constant(weights(1))], body, 1)[0]


def slicing(b: Builder, x: Value, n: Value) -> Value:
    """Rows that the number of the trip says: a shape of its own in each."""

    def body(i: Builder, turn: Value, going: Value, rows: Value, w: Value) -> list[Value]:
        end = i.add("Reshape", i.add("Add", turn, i.constant(1, np.int64)), i.constant([1], np.int64))
        part = i.add("Slice", i.add("MatMul", w, w), i.constant([0], np.int64), end)
        return [
            going,
            i.add(
                "Add",
                i.add("ReduceSum", part, i.constant([0], np.int64)),
                i.add("Slice", rows, *(i.constant([k], np.int64) for k in (0, 1))),
            ),
        ]

    return loop(b, n, None, [x], [b.constant(weights(2))], body, 1)[0]


def graph(make) -> Graph:
    b = Builder("held")
    x, n = b.input("x", F32, ("rows", 8)), b.input("n", np.int64, ())
    return b.build({"y": make(b, x, n)})


def feeds(rows: int, n: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(rows).uniform(-1, 1, (rows, 8)).astype(F32), "n": np.array(n)}


def programs(model: Model) -> list[HeldPrograms]:
    plans = [*model._plans.values(), *model._many]
    return [node.held for plan in plans for node, _ in plan.seam.between if node.held is not None]


@pytest.mark.parametrize("make", [attending, slicing])
def test_trips_agree_with_the_reference(make):
    g = graph(make)
    model = graphc.compile(g, threads=1)
    for rows, n in ((1, 3), (2, 7), (5, 0), (3, 12)):
        agree(model.run(feeds(rows, n)), reference(g, feeds(rows, n)))


def test_a_few_plans_serve_all_trips():
    model = graphc.compile(graph(attending), threads=1)
    for rows, n in ((2, 40), (3, 40)):
        model.run(feeds(rows, n))
    held = programs(model)
    assert held and all(p._compiled for p in held)
    made = [plans.made for p in held for plans in p._plans.values()]
    assert all(made) and max(made) <= FEW
    if offered("cpu:avx512"):
        assert sum(made) <= FEW


def test_an_error_within_a_trip_is_the_references():
    def body(i: Builder, turn: Value, going: Value, rows: Value) -> list[Value]:
        rows = i.add("Concat", rows, i.add("MatMul", rows, i.constant(weights(1))), axis=0)
        return [going, i.add("Gather", rows, i.add("Add", turn, i.constant([2], np.int64)), axis=0)]

    b = Builder("wrong")
    x, n = b.input("x", F32, ("rows", 8)), b.input("n", np.int64, ())
    g = b.build({"y": loop(b, n, None, [x], [], body, 1)[0]})
    with pytest.raises(GraphcError) as wanted:
        reference(g, feeds(2, 5))
    with pytest.raises(GraphcError) as caught:
        graphc.compile(g).run(feeds(2, 5))
    assert caught.value.message == wanted.value.message


def test_a_plan_for_many_sizes_knows_none_of_them_within_a_trip():
    """Neither where nothing is collected, whose type says what of, nor where the body computes with a size."""

    def body(i: Builder, turn: Value, going: Value, rows: Value, x: Value) -> list[Value]:
        size = i.add("Gather", i.add("Shape", x), i.constant(0, np.int64))
        item = i.add("Mul", i.add("ReduceSum", x, i.constant([1], np.int64)), i.add("Cast", size, to=F32))
        return [going, i.add("Concat", rows, rows, axis=0), item]

    b = Builder("sizes")
    x, n = b.input("x", F32, ("rows", 8)), b.input("n", np.int64, ())
    grown, items = loop(b, n, None, [x], [x], body, 2)
    g = b.build({"y": grown, "items": items})
    model = graphc.compile(g, threads=1)
    for rows, n in ((2, 3), (3, 0), (4, 2), (5, 0), (6, 1)):
        agree(model.run(feeds(rows, n)), reference(g, feeds(rows, n)))

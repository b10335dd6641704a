"""A graph that data cuts, and whose rest data cuts again where one plan was to serve many shapes: each shape has its own then."""

from __future__ import annotations

import numpy as np
import pytest
from controls import loop

import graphc
from graphc.graph import Builder, Graph, Value

F32 = np.float32


def doubled(b: Builder, turn: Value, going: Value, state: Value) -> list[Value]:
    twice = b.add("Mul", state, b.constant(F32(2)))
    return [b.add("Less", turn, b.constant(np.int64(2))), twice, b.add("Sigmoid", twice)]


def collected_twice() -> Graph:
    """Rows as the body's condition says, a branch that their values choose, and rows of its result."""
    b = Builder("g")
    x, limit = b.input("x", F32, ("n", 3)), b.input("limit", np.int64, ())
    rows = loop(b, limit, None, [x], [], doubled, 2)[1]
    top = b.add("ReduceMax", rows, b.constant([1, 2]), keepdims=False)
    held = {}
    for name in ("then_branch", "else_branch"):
        h = Builder(name)
        v = h.input("v", F32, ("k",))
        y = h.add("Slice", v, h.constant([0]), h.constant([1])) if name == "then_branch" else h.add("Neg", v)
        held[name] = h.build({"y": y})
    above = b.add("Greater", b.add("ReduceSum", top, keepdims=False), b.constant(F32(1)))
    chosen = b.add("If", above, top, outputs=1, **held)
    return b.build({"y": loop(b, limit, None, [chosen], [], doubled, 2)[1], "top": top})


@pytest.mark.parametrize("target", ["cpu", "cpu:portable"])
def test_loops_behind_what_data_chose(target: str):
    model, reference = (graphc.compile(collected_twice(), target=t) for t in (target, "reference"))
    for n, limit, scale in ((2, 5, 1), (4, 5, 1), (5, 2, -9), (2, 1, 1), (3, 2, 1), (3, 5, -9)):
        feeds = {"x": np.full((n, 3), scale, F32), "limit": np.array(limit)}
        found, want = model.run(feeds), reference.run(feeds)
        for name in want:
            np.testing.assert_allclose(found[name], want[name], rtol=1e-6)  # a sigmoid's last digit

"""Nodes that run on the host in a plan for many sizes: graphs that they hold stay graphs."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.graph import Builder, Graph

F32 = np.float32


def branches() -> Graph:
    """One has an axis more, so no kernel makes both; the other gives what it is given."""
    held = {}
    for name in ("then_branch", "else_branch"):
        b = Builder(name)
        x = b.input("x", F32, ("n", "m", 4))
        if name == "then_branch":
            y = b.add("Unsqueeze", b.add("MatMul", x, b.constant(np.eye(4, dtype=F32))), b.constant([0]))
        else:
            y = b.add("Identity", x)
        held[name] = b.build({"y": y})
    b = Builder("g")
    x, c = b.input("x", F32, ("n", "m", 4)), b.input("c", np.bool_, ())
    return b.build({"y": b.add("If", c, x, outputs=1, **held)})


@pytest.mark.parametrize("disabled", [["inline_branches", "merge_reshapes"], ["inline_branches"]])
@pytest.mark.parametrize("condition", [False, True])
def test_a_held_graph_for_many_sizes(disabled: list[str], condition: bool):
    model = graphc.compile(branches(), disabled=disabled)
    for shape in ((2, 9), (5, 5), (3, 7), (5, 5)):
        x = np.random.default_rng(0).normal(size=(*shape, 4)).astype(F32)
        found = model.run({"x": x, "c": np.array(condition)})["y"]
        np.testing.assert_array_equal(found, x[None] if condition else x)

"""Frames of kernels: which nodes are in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from zoo import EXAMPLES

from graphc import draw
from graphc.draw.boxes import Frame
from graphc.draw.fold import picture_of_groups
from graphc.draw.kernels import grouped, steps_of
from graphc.draw.parts import scopes_of
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Builder, Graph
from graphc.report import StepInfo


def step(index: int, nodes: tuple[str, ...], output: str, algorithm: str = "") -> StepInfo:
    return StepInfo(index, nodes, ("?",) * len(nodes), "kernel", algorithm, output=output)


def frames(graph: Graph, *steps: StepInfo) -> dict[str, list[list[str]]]:
    picture = picture_of_groups(grouped(scopes_of(graph), steps))
    return {f.title: [[p.name for p in box.rows] for box in f.boxes()] for f in picture.root.frames()}


def test_a_node_that_no_step_names_goes_with_what_made_or_read_it():
    b = Builder("g")
    x = b.input("x", "float32", ("n", 4, 8, 8))
    w, ones = b.constant(np.zeros((4, 4, 1, 1), np.float32)), b.constant(np.ones(4, np.float32))
    for i in range(2):
        x = b.add("Conv", x, w, name=f"conv{i}")
        x = b.add("BatchNormalization", x, ones, ones, ones, ones, name=f"bn{i}")
        x = b.add("Relu", x, name="relu") if i == 0 else x
    flat = b.add("Flatten", x, name="flat")
    graph = b.build({"y": b.add("Abs", flat, name="abs"), "z": b.add("Neg", flat, name="neg")})
    found = frames(
        graph,
        step(0, ("conv0", "relu"), "relu", "direct"),
        step(1, ("conv1",), "bn1", "winograd"),
        step(2, ("abs",), "abs"),
        step(3, ("neg",), "neg"),
    )
    assert found == {  # the view is read by two kernels, and is neither's
        "0 direct": [["conv0", "bn0", "relu"]], "1 winograd": [["conv1", "bn1"]], "2 kernel": [["abs"]], "3 kernel": [["neg"]]
    }  # fmt: skip


def test_a_loop_is_in_the_frame_of_its_step():
    graph = loads_yaml((EXAMPLES / "art1.yaml").read_text())
    (loop,) = (node for node in graph.nodes if node.op.holds_graphs)
    picture = picture_of_groups(grouped(scopes_of(graph), (step(0, (loop.name,), "", "one thread"),)))
    outer = next(f for f in picture.root.items if isinstance(f, Frame))
    assert outer.title == "0 one thread" and [f.title for f in outer.frames()] == ["Loop"]
    assert len(draw.svg(picture)) > 1000


def test_what_a_pass_replaced_goes_with_what_does_its_arithmetic():
    """'attention' became three nodes, whose names begin with its; a result that is named as a value is in no kernel."""
    b = Builder("g")
    x = b.input("x", "float32", (4,))
    graph = b.build({"attention/Fused_1": b.add("Exp", b.add("Neg", x, name="attention"), name="last")})
    steps = [
        step(0, ("x/Reorder_2",), "x"),
        step(1, ("attention/Pack_0",), "rows"),
        step(2, ("attention/Fused_1",), "f"),
    ]
    steps[2] = replace(steps[2], flops=100)
    found = {u.name: s and s.index for u, s in steps_of(scopes_of(graph), [*steps, step(3, ("last",), "y")]).items()}
    assert found == {"x": None, "attention": 2, "last": 3, "attention/Fused_1": None}

"""What is a box and what a frame: rules on graphs that are made for them, and what holds of every picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from zoo import EXAMPLES

from graphc import draw
from graphc.draw.boxes import Box, Frame, Picture
from graphc.draw.fold import summary
from graphc.draw.kinds import Kind, kind_of
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Builder, Graph, Node
from graphc.op import all_ops


def outline(element: Frame | Box) -> object:
    """A box as its text, a frame as (title, what is in it)."""
    if isinstance(element, Box):
        text = element.label or "+".join(part.title for part in element.rows)
        return f"{text} ×{element.count}" if element.count > 1 else text
    return element.title, [outline(item) for item in element.items]


def outlines(picture: Picture) -> list:
    return [outline(item) for item in picture.root.items]


def edges(picture: Picture) -> set[tuple[str, str]]:
    return {(outline(e.source), outline(e.target)) for e in picture.edges}


def chain(names: Sequence[str], ops: Sequence[str] = ("Conv", "Relu")) -> Graph:
    """x through the operators, once for each name."""
    b = Builder("chain")
    x = b.input("x", "float32", ("n", 4, 8, 8))
    w = b.constant(np.zeros((4, 4, 1, 1), np.float32))
    for name in names:
        for op in ops:
            x = b.add(op, x, *([w] if op == "Conv" else []), name=f"{name}/{op}")
    return b.build({"y": x})


def test_what_is_applied_in_passing_stands_below_and_what_repeats_is_there_once():
    graph = chain(["/a", "/b", "/c"])
    assert outlines(draw.picture(graph)) == ["x", "Conv+Relu ×3", "y"]
    assert outlines(draw.picture(graph, "none")) == [
        "x", ("a", ["Conv", "Relu"]), ("b", ["Conv", "Relu"]), ("c", ["Conv", "Relu"]), "y"
    ]  # fmt: skip
    assert edges(draw.picture(graph)) == {("x", "Conv+Relu ×3"), ("Conv+Relu ×3", "y")}


def test_blocks_whose_names_differ_by_a_number_repeat():
    b = Builder("residual")
    x = b.input("x", "float32", ("n", 4, 8, 8))
    for i in range(3):
        y = b.add("Relu", x, name=f"/layer1/layer1.{i}/relu/Relu")
        x = b.add("Add", x, y, name=f"/layer1/layer1.{i}/Add")
    picture = draw.picture(b.build({"y": x}))
    assert outlines(picture) == ["x", ("layer1.0 ×3", ["Relu", "Add"]), "y"]
    assert edges(picture) == {("x", "Relu"), ("x", "Add"), ("Relu", "Add"), ("Add", "y")}


@pytest.mark.parametrize("other", [{"alpha": 0.5}, "Sigmoid", "skip"])
def test_what_differs_does_not_repeat(other: object):
    """In an attribute, an operator, or in what it reads."""
    b = Builder("g")
    x = first = b.input("x", "float32", ("n", 4))
    for i in range(2):
        last = i == 1
        y = b.add(
            "LeakyRelu" if not (last and other == "Sigmoid") else "Sigmoid",
            x,
            name=f"/b.{i}/act",
            **(other if last and isinstance(other, dict) else {}),
        )
        x = b.add("Add", y, first if last and other == "skip" else x, name=f"/b.{i}/Add")
    picture = draw.picture(b.build({"y": x}))
    assert [box.count for box in picture.boxes] == [1] * len(picture.boxes)
    assert sum(box.kind is Kind.PORT for box in picture.boxes) == 2


def test_equal_branches_side_by_side_are_two():
    b = Builder("g")
    x = b.input("x", "float32", ("n", 4))
    left, right = (b.add("Relu", x, name=name) for name in ("left", "right"))
    assert outlines(draw.picture(b.build({"y": b.add("Add", left, right)}))) == ["x", "Relu", "Relu", "Add", "y"]


def test_a_value_that_others_read_is_not_inside_a_box():
    b = Builder("g")
    x = b.input("x", "float32", ("n", 4))
    y = b.add("Relu", x)
    z = b.add("Tanh", y)
    picture = draw.picture(b.build({"y": y, "z": z}))
    assert outlines(picture) == ["x", "Relu", "Tanh", "y", "z"]


NET = """
graphc: 1
inputs: {x: [batch, 8, 8, 8]}
blocks:
  unit: {body: [{branch: {join: add, paths: {main: [{conv: {out: 8, pad: same}}, bn], skip: identity}}}, relu]}
  stage:
    args: {n: required}
    body: [{repeat: {n: $n, of: unit}}, {maxpool: 2}]
net: [{stage: {n: 2}}, {stage: {n: 3, name: deep}}, flatten, {dense: 3}]
"""


def test_blocks_of_a_file_are_frames():
    picture = draw.picture(loads_yaml(NET))
    unit = ["Conv+BatchNormalization", "Add+Relu"]
    assert outlines(picture) == [
        "x", ("stage", [("unit ×2", unit), "MaxPool"]), ("deep: stage", [("unit ×3", unit), "MaxPool"]),
        "Flatten", "Gemm", "output",
    ]  # fmt: skip


def test_folded_frames_are_boxes_that_tell_what_they_hold():
    picture = draw.picture(loads_yaml(NET), "all")
    assert outlines(picture) == ["x", "stage", "deep: stage", "Flatten", "Gemm", "output"]
    assert [summary(box) for box in picture.boxes if box.label] == ["2 Conv, 1 MaxPool", "3 Conv, 1 MaxPool"]
    assert edges(picture) == {
        ("x", "stage"), ("stage", "deep: stage"), ("deep: stage", "Flatten"), ("Flatten", "Gemm"), ("Gemm", "output")
    }  # fmt: skip


def test_inner_frames_are_folded_first_and_one_of_a_kind_is_kept():
    graph = loads_yaml(NET)
    unit = ["Conv+BatchNormalization", "Add+Relu"]
    assert outlines(draw.picture(graph, most=9)) == [
        "x", ("stage", [("unit ×2", unit), "MaxPool"]), ("deep: stage", ["unit ×3", "MaxPool"]),
        "Flatten", "Gemm", "output",
    ]  # fmt: skip
    assert len(draw.picture(graph, most=1).boxes) == 6  # the outermost level: no more can be folded


LOOP = """
graphc: 1
inputs: {a: [n], flag: {shape: [], dtype: bool}}
net:
  - while:
      states: {root: {like: a, value: 1.0}, change: .inf}
      condition: change > 1.0e-6
      at_most: 100
      of:
        - let: {better: 0.5*(root + a/root)}
        - let: abs(better - root)
        - max: {axis: 0, as: change}
        - let: {root: better}
  - when: flag
    from: root
    then: [relu]
    else: [tanh]
outputs: {y: last}
"""


def test_held_graphs_are_frames_with_what_goes_in_and_out():
    picture = draw.picture(loads_yaml(LOOP), "none")
    titles = [frame.title for frame in picture.root.frames()]
    assert "Loop" in titles and "If" in titles and {"then", "else"} <= set(titles)
    loop = next(frame for frame in picture.root.frames() if frame.title == "Loop")
    ports = [part.title for box in loop.boxes() for part in box.rows if part.kind is Kind.CONTROL]
    assert ports.count("root") == 2 and "change" in ports  # before and after a step
    into = {(e.source.rows[0].title, e.target.rows[0].title) for e in picture.edges}
    assert ("a", "Div") in into  # what the body uses of outside
    assert ("flag", "condition") in into
    ends = {e.source for e in picture.edges if e.target.rows[0].title == "y"}
    then, other = (next(f for f in picture.root.frames() if f.title == title) for title in ("then", "else"))
    assert len(ends) == 2 and ends & {*then.boxes()} and ends & {*other.boxes()}


@pytest.mark.sample(9)
@pytest.mark.parametrize("fold", draw.FOLDS)
@pytest.mark.parametrize(
    "name", ["xor", "lenet5", "unet", "googlenet", "shufflenet_v2", "art1", "elman", "deep_belief_net"]
)
def test_every_node_and_every_connection_is_there(name: str, fold: str):
    """Against the graph itself: boxes cover all nodes that follow from inputs, once, and edges are those between boxes."""
    graph = loads_yaml((EXAMPLES / f"{name}.yaml").read_text())
    picture = draw.picture(graph, fold)
    home: dict[str, Box] = {}
    for box in picture.boxes:
        for part in box.covers:
            if part.kind is not Kind.PORT:
                assert part.name not in home or part.kind is Kind.CONTROL
                home[part.name] = box
    drawn = {(e.source, e.target) for e in picture.edges}
    maker = {v: n for n in graph.nodes for v in n.outputs}
    made: set[tuple[Box, Box]] = set()
    for node in graph.nodes:
        if not of_inputs(node, graph):
            assert node.name not in home or node.op.holds_graphs
            continue
        if node.op.holds_graphs:
            continue
        assert node.name in home
        for v in node.operands:
            if v in maker and maker[v].name in home and not maker[v].op.holds_graphs:
                made.add((home[maker[v].name], home[node.name]))
    for source, target in made:
        assert source is target or (source, target) in drawn or in_one_run(picture, source, target)
    if not any(node.op.holds_graphs for node in graph.nodes):
        inner = {(s, t) for s, t in drawn if Kind.PORT not in (s.kind, t.kind)}
        assert inner <= made


def of_inputs(node: Node, graph: Graph) -> bool:
    """Does it depend on an input of the graph, or on nothing at all (a random number)?"""
    maker = {v: n for n in graph.nodes for v in n.outputs}
    seen, todo = set(), [node]
    while todo:
        n = todo.pop()
        if any(v in graph.inputs for v in n.operands) or not n.deterministic or n.op.holds_graphs:
            return True
        for v in n.operands:
            if v in maker and maker[v] not in seen:
                seen.add(maker[v])
                todo.append(maker[v])
    return not node.operands and node.op.name != "Constant"


def in_one_run(picture: Picture, *boxes: Box) -> bool:
    runs = [frame for frame in picture.root.frames() if frame.count > 1]
    return any({*boxes} <= {*frame.boxes()} for frame in runs)


def test_every_operator_has_a_kind():
    kinds = {name: kind_of(op) for name, op in all_ops().items()}
    assert {Kind.BLOCK, Kind.PORT}.isdisjoint(kinds.values())
    assert {kinds[n] for n in ("Conv", "ConvTranspose", "QLinearConv")} == {Kind.CONV}
    assert {kinds[n] for n in ("MatMul", "Gemm", "Attention")} == {Kind.PRODUCT}
    assert {kinds[n] for n in ("MaxPool", "GlobalAveragePool", "ReduceSum")} == {Kind.POOL}
    assert {kinds[n] for n in ("BatchNormalization", "LayerNormalization")} == {Kind.NORM}
    assert kinds["Relu"] is Kind.ACTIVATION and kinds["Add"] is Kind.ARITHMETIC

"""The tree of groups: what is in which, and how long groups are cut."""

from __future__ import annotations

from collections.abc import Iterator

from zoo import EXAMPLES

import graphc
from graphc.cli.page.outline import MOST, Group, outline
from graphc.graph import Builder, Graph
from graphc.report import StepInfo


def groups(group: Group) -> Iterator[Group]:
    yield group
    for item in group.items:
        if isinstance(item, Group):
            yield from groups(item)


def chain(n: int, narrow: int = 0) -> Graph:
    """n nodes in a row. narrow: at every so many, nothing but the last value crosses; elsewhere two do."""
    b = Builder("chain")
    last = before = b.input("x", "float32", (4,))
    for i in range(n):
        cut = not narrow or i % narrow == 0
        before, last = last, b.add("Relu", last, name=f"n{i}") if cut else b.add("Add", last, before, name=f"n{i}")
    return b.build({"y": last})


def test_long_groups_are_cut_again_and_again():
    n = 21 * MOST
    found = outline(chain(n), ())
    assert all(2 <= len(group.items) <= MOST for group in groups(found.root))
    parts = list(found.root.parts())
    assert len(parts) == len(set(parts)) == n + 2 and len(found.edges) == n + 1


def test_cuts_are_where_little_crosses():
    found = outline(chain(10 * MOST, narrow=MOST - 3), ())
    pieces = [item for item in found.root.items if isinstance(item, Group)]
    assert {p.title.partition(" ")[0] for p in pieces[1:-1]} <= {f"n{i}" for i in range(0, 10 * MOST, MOST - 3)} | {
        f"n{i + 1}" for i in range(0, 10 * MOST, MOST - 3)
    }


def test_a_kernel_stands_in_the_block_that_holds_all_of_it():
    b = Builder("g")
    x = b.input("x", "float32", (4,))
    for name in ("a.first.relu", "a.first.neg", "a.second.abs", "a.second.exp", "b.relu", "b.neg"):
        x = b.add(name.rpartition(".")[2].capitalize(), x, name=name)
    kernels = (["a.first.relu"], ["a.first.neg", "a.second.abs"], ["a.second.exp"], ["b.relu", "b.neg"])
    steps = [StepInfo(i, tuple(names), ("?",) * len(names), "map") for i, names in enumerate(kernels)]
    root = outline(b.build({"y": x}), steps).root
    a, kernel = (item for item in root.items if isinstance(item, Group))
    assert (a.role, a.path, kernel.role) == ("block", "a", "kernel")  # b is no more than its kernel
    inner = [item for item in a.items if isinstance(item, Group)]
    assert [[part.name for part in group.parts()] for group in inner if group.role == "kernel"] == [
        ["a.first.neg", "a.second.abs"]
    ]


def test_graphs_that_nodes_hold_are_groups():
    graph = graphc.compile(EXAMPLES / "art1.yaml").source_graph
    loop = next(group for group in groups(outline(graph, ()).root) if group.role == "graph")
    assert loop.title == "Loop" and len(list(loop.parts())) > 3


def test_all_parts_are_in_the_tree_once_whatever_the_steps():
    model = graphc.compile(EXAMPLES / "lenet5.yaml")
    steps = model.plan({model.inputs[0].name: (1, 1, 28, 28)}).steps
    with_steps, without = (outline(model.source_graph, s) for s in (steps, ()))
    names = [sorted(part.name for part in found.root.parts()) for found in (with_steps, without)]
    assert names[0] == names[1]
    fused = {name for step in steps for name in step.nodes if len(step.nodes) > 1}
    kernels = [group for group in groups(with_steps.root) if group.role == "kernel"]
    assert fused <= {part.name for group in kernels for part in group.parts()} | {f for f in fused if f not in names[0]}

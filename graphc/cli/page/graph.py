"""The graph of a report as plain data: groups, nodes, edges, and what a reader sees of a node that is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphc.cli.layers import short_type
from graphc.cli.page.outline import Element, Group, Outline, outline
from graphc.draw.kernels import kernel_of
from graphc.draw.kinds import Kind
from graphc.draw.parts import Part
from graphc.draw.text import shortened
from graphc.graph import Graph, Node, Value
from graphc.objects import is_object
from graphc.report import StepInfo

MOST_VALUES = 8  # elements of a constant that are written out
LONGEST = 200  # characters of an attribute
KINDS = list(Kind)
_PASSING = (Kind.PORT, Kind.CONTROL, Kind.MOVEMENT, Kind.ARITHMETIC, Kind.ACTIVATION, Kind.NORM, Kind.OTHER)


def graph_data(graph: Graph, steps: Sequence[StepInfo]) -> dict[str, Any]:
    """groups: parents first, the root at 0. nodes and groups name their group by its number, and what computes them by the number of
    the step; `kinds` of steps are those of their heaviest nodes."""
    found = outline(graph, steps)
    nodes = {node.name: node for node in all_nodes(graph)}
    makers = {v: node for node in nodes.values() for v in node.outputs}
    groups: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    numbers: dict[Part, int] = {}
    for element, parent in _walk(found.root, -1, groups):
        if isinstance(element, Group):
            groups.append(_group(element, parent, nodes))
        else:
            numbers[element] = len(rows)
            node = makers.get(element.makes[0]) if element.makes else nodes.get(element.name)
            rows.append(_node(element, parent, node, found))
    labels = {edge: edge.label for edge in found.edges}
    edges = [[numbers[e.source], numbers[e.target], labels[e], e.value.name] for e in found.edges]
    return {
        "kinds": [[kind.word, kind.border] for kind in KINDS],
        "groups": groups,
        "nodes": rows,
        "edges": edges,
        "step_kinds": _step_kinds(found),
    }


def all_nodes(graph: Graph) -> Iterator[Node]:
    """Its nodes, and those of graphs that they hold."""
    for node in graph.nodes:
        yield node
        for held in node.attrs.values():
            if isinstance(held, Graph):
                yield from all_nodes(held)


def _walk(element: Element, parent: int, groups: Sequence[Any]) -> Iterator[tuple[Element, int]]:
    yield element, parent
    if isinstance(element, Group):
        number = len(groups) - 1  # where the caller has put it
        for item in element.items:
            yield from _walk(item, number, groups)


def _group(group: Group, parent: int, nodes: dict[str, Node]) -> dict[str, Any]:
    title, detail = group.title, ""
    if group.role == "kernel":
        assert group.step is not None
        title = " + ".join(shortened(part.title, 24) for part in group.parts())
        detail = kernel_of(group.step)
    elif group.role == "block" and group.path and group.path != group.title:
        detail = group.path
    node = nodes.get(group.path) if group.role == "graph" else None
    return {
        "title": shortened(title, 48),
        "detail": detail,
        "name": group.path,
        "role": group.role,
        "parent": parent,
        "step": -1 if group.step is None else group.step.index,
        **({} if node is None else _told(node)),
    }


def _node(part: Part, parent: int, node: Node | None, found: Outline) -> dict[str, Any]:
    step = found.step_of.get(part)
    told = {} if node is None else _told(node)
    if part.kind is Kind.PORT:
        values = part.makes or part.reads
        told = {"op": "input" if part.makes else "output", "outputs": [_value(v) for v in values]}
    return {
        "title": shortened(part.title, 32),
        "detail": part.detail,
        "name": part.name,
        "kind": KINDS.index(part.kind),
        "parent": parent,
        "step": -1 if step is None else step.index,
        **told,
    }


def _told(node: Node) -> dict[str, Any]:
    return {
        "op": node.op.name,
        "attributes": [[key, _attribute(value)] for key, value in node.attrs.items()],
        "inputs": [_value(v) for v in node.inputs if v is not None],
        "outputs": [_value(v) for v in node.outputs],
        "source": str(node.source or ""),
    }


def _value(v: Value) -> list[str]:
    """Name, type, and of a constant what it holds."""
    if v.data is None:
        return [v.name, short_type(v.type)]
    small = v.data.size <= MOST_VALUES and not is_object(v.type)
    return [v.name, short_type(v.type), shortened(str(v.data.tolist()), LONGEST) if small else "constant"]


def _attribute(value: Any) -> str:
    if isinstance(value, Graph):
        return f"graph of {len(value.nodes)} nodes"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}" if value.size > MOST_VALUES else str(value.tolist())
    return shortened(str(value), LONGEST)


def _step_kinds(found: Outline) -> dict[int, int]:
    kinds: dict[int, Counter[Kind]] = {}
    for part, step in found.step_of.items():
        kinds.setdefault(step.index, Counter())[part.kind] += 1
    return {
        index: KINDS.index(min(counts, key=lambda k: (k in _PASSING, -counts[k], KINDS.index(k))))
        for index, counts in kinds.items()
    }

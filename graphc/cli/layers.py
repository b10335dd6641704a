"""A graph as a table of layers: what each reads, makes, holds and costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.bind import bind
from graphc.dims import UNKNOWN, Dim, substitute
from graphc.graph import Graph, Node, Value
from graphc.objects import is_object
from graphc.ops.control import bound_graphs, trips
from graphc.types import TensorType, dtype_name, number


@dataclass(frozen=True)
class LayerRow:
    """A node as a row. `sources` are row numbers, or names of the graph's inputs; `macs` is None where unknown."""

    index: int
    name: str
    op: str
    sources: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    statistics: int
    macs: int | None


def short_type(t: TensorType | None) -> str:
    """A type; dims that follow from data, or by functions that are no plain arithmetic, are '?'."""
    if t is None:
        return "?"
    if is_object(t):
        return str(t)
    dims = ["?" if re.search(r"[A-Za-z_]\w*\(", str(d)) else str(d) for d in t.shape]
    return f"{dtype_name(t.dtype)}[{', '.join(dims)}]"


def of_one(inputs: Iterable[Value]) -> dict[str, tuple[Dim, ...]]:
    """The shapes of inputs for a batch of one: first dims that are open are 1, all others stay open."""
    shapes = {v.name: v.shape for v in inputs}
    firsts = {str(shape[0]): 1 for shape in shapes.values() if shape and shape[0] != UNKNOWN}
    return {
        name: tuple(1 if i == 0 and d == UNKNOWN else substitute(d, firsts) for i, d in enumerate(shape))
        for name, shape in shapes.items()
    }


def bound_to(graph: Graph, shapes: Mapping[str, tuple[Dim, ...]]) -> Graph:
    """The graph for inputs of these shapes."""
    return bind(graph, {v.name: v.type.with_shape(shapes[v.name]) for v in graph.inputs})


def layers(graph: Graph, shapes: Mapping[str, tuple[Dim, ...]] | None = None) -> list[LayerRow]:
    """One row per node, but for transposes of constants: they are part of the nodes that read them. Output shapes are those of
    `graph`; MACs those of the graph bound to `shapes`.

    A constant that several nodes read counts once, where it is read first.
    """
    bound = graph if shapes is None else bound_to(graph, shapes)
    origin: dict[Value, str] = {v: v.name for v in graph.inputs}
    counted: set[Value] = set()
    rows: list[LayerRow] = []
    known, turned = _known(graph), _transposed(graph)
    for node, exact in zip(graph.nodes, bound.nodes):
        if node.output in turned:
            continue
        i, read = len(rows), (node, *(turned[v] for v in node.operands if v in turned))
        learned, measured = (sum(sizes) for sizes in zip(*(_weights(n, counted, known) for n in read)))
        sources = tuple(dict.fromkeys(origin[v] for v in node.operands if v in origin))
        outputs = tuple(short_type(v.type) for v in node.outputs)
        rows.append(LayerRow(i, node.name, node.op.name, sources, outputs, learned, measured, multiply_adds(exact)))
        origin.update({v: str(i) for v in node.outputs})
    return rows


@dataclass(frozen=True)
class ResultRow:
    """A result of a graph: how many layers lead to it, and what these hold and cost. `macs` is None where unknown."""

    name: str
    type: str
    layers: int
    parameters: int
    macs: int | None


def results(graph: Graph, rows: Sequence[LayerRow]) -> list[ResultRow]:
    """One row per result of `graph`, whose layers are `rows`. What several results need counts in each of them."""
    producers, known, turned = graph.producers(), _known(graph), _transposed(graph)
    shown = [node for node in graph.nodes if node.output not in turned]
    found = []
    for name, value in zip(graph.output_names, graph.outputs):
        needed, open_ = set(), [value]
        while open_:
            node = producers.get(open_.pop())
            if node is not None and node not in needed:
                needed.add(node)
                open_.extend(node.operands)
        counted: set[Value] = set()
        parameters = sum(_weights(node, counted, known)[0] for node in graph.nodes if node in needed)
        costs = [row.macs for row, node in zip(rows, shown) if node in needed]
        macs = None if None in costs else sum(n for n in costs if n is not None)
        found.append(ResultRow(name, short_type(value.type), len(costs), parameters, macs))
    return found


def _transposed(graph: Graph) -> dict[Value, Node]:
    """Transposes of constants, by their results, that other nodes read."""
    read = graph.consumers()
    return {
        node.output: node
        for node in graph.nodes
        if node.op.name == "Transpose" and node.operands[0].is_const
        if node.output in read and not graph.is_output(node.output)
    }


def _known(graph: Graph) -> dict[str, bool] | None:
    """All weights by name, and whether they are learned, where the front end tells."""
    weights = graph.meta.get("weights")
    return None if weights is None else {w.name: w.trainable for w in weights}


def _weights(node: Node, counted: set[Value], known: Mapping[str, bool] | None) -> tuple[int, int]:
    """Elements of the weights that this node is the first to read: learned, measured. known: see `_known`."""
    sizes = [0, 0]
    for held in (g for g in node.attrs.values() if isinstance(g, Graph)):
        for inner in held.nodes:
            sizes = [a + b for a, b in zip(sizes, _weights(inner, counted, known))]
    for i, v in enumerate(node.inputs):
        if v is None or not v.is_const or v in counted:
            continue
        if known is None and _may_be_learned(node, i) or known is not None and v.name in known:
            counted.add(v)
            sizes[i in node.op.statistics if known is None else not known[v.name]] += v.data.size
    return sizes[0], sizes[1]


def weights_of(graph: Graph) -> list[Value]:
    """The constants that may be learned, those of graphs that nodes hold among them, in the order in which they are read."""
    found: dict[Value, None] = {}
    for node in graph.nodes:
        for held in (g for g in node.attrs.values() if isinstance(g, Graph)):
            found.update(dict.fromkeys(weights_of(held)))
        constants = [(i, v) for i, v in enumerate(node.inputs) if v is not None and v.is_const]
        found.update((v, None) for i, v in constants if _may_be_learned(node, i))
    return list(found)


def _may_be_learned(node: Node, i: int) -> bool:
    """Is operand i, a constant, not a factor, a shape, an axis, an index or a mask?"""
    v = node.inputs[i]
    return v.data.ndim > 0 and i not in node.op.values and v.dtype != np.int64 and v.dtype.kind not in "bO"


def multiply_adds(node: Node) -> int | None:
    """Multiply-accumulates of a node with bound shapes; 0 where it has none, None where shapes are open, and where data decides
    how often graphs that it holds run."""
    if node.op.holds_graphs:
        return _held_multiply_adds(node)
    if node.op.macs is None:
        return 0
    if not all(v.type is not None and v.type.is_static for v in (*node.operands, *node.outputs)):
        return None
    return number(node.op.macs(node.call))


def _held_multiply_adds(node: Node) -> int | None:
    held = {key: g for key, g in node.attrs.items() if isinstance(g, Graph)} | bound_graphs(node)
    counts = [[multiply_adds(inner) for inner in g.nodes] for g in held.values()]
    each = {None if None in macs else sum(n for n in macs if n is not None) for macs in counts}
    macs = each.pop()
    if each or not macs or node.op.name == "If":
        return None if each else macs
    times = trips(node)
    return None if times is None else times * macs

"""Graphs whose shapes follow from data (NonZero, NonMaxSuppression, Loop …): run what is known, look, go on.

A bound graph is cut into a *head* of nodes whose types are all known, *pivots* that only running can tell the shape of, and
the *tail* behind them. The tail is a graph of its own with the values so far as its inputs: binding it knows their shapes,
and their values where they decide shapes. It may be cut again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc.graph import Graph, Node, Rewriter, Value


@dataclass(frozen=True, eq=False)
class Cut:
    """The tail's inputs are the graph's own, then the head's results, then the pivots' outputs."""

    head: Graph
    pivots: tuple[Node, ...]
    tail: Graph


def is_static(graph: Graph) -> bool:
    """Is every shape known?"""
    return all(_known(v) for n in graph.nodes for v in n.outputs)


def _known(v: Value) -> bool:
    return v.type is not None and v.type.is_static


def cut(graph: Graph) -> Cut:
    """Cut a bound graph that is not static. The head may be empty; head and pivots together are not."""
    ready: set[Value] = set(graph.inputs)
    head: list[Node] = []
    pivots: list[Node] = []
    tail: list[Node] = []
    for node in graph.nodes:
        have = all(v.is_const or v in ready for v in node.operands)
        if have and all(_known(v) for v in node.outputs):
            head.append(node)
            ready.update(node.outputs)
        elif have and not _waits_for_a_value(node):
            pivots.append(node)
        else:
            tail.append(node)
    produced: list[Value] = [v for n in pivots for v in n.outputs]
    needed_later = {v for n in (*pivots, *tail) for v in n.operands} | set(graph.outputs)
    computed = [v for n in head for v in n.outputs if v in needed_later]
    passed = [*graph.inputs, *computed]
    head_graph = Graph(
        f"{graph.name}/head", graph.inputs, tuple(computed), tuple(head), tuple(_unique(computed)), graph.meta
    )
    inputs = tuple(replace(v, name=n) for v, n in zip((*passed, *produced), _unique([*passed, *produced])))
    rw = Rewriter(Graph("", inputs, (), (), ()))
    rw.map.update(zip((*passed, *produced), inputs))
    for node in tail:
        rw.copy(node)
    results = tuple(rw(v) for v in graph.outputs)
    tail_graph = Graph(f"{graph.name}/tail", inputs, results, tuple(rw.nodes), graph.output_names, graph.meta)
    return Cut(head_graph, tuple(pivots), tail_graph)


def _waits_for_a_value(node: Node) -> bool:
    """Its type follows from an operand's value, which will be a constant of the tail."""
    return any(
        i < len(node.inputs) and node.inputs[i] is not None and not node.inputs[i].is_const for i in node.op.values
    )


def _unique(values: Sequence[Value]) -> list[str]:
    names: list[str] = []
    for v in values:
        name, k = v.name, 1
        while name in names:
            name, k = f"{v.name}.{k}", k + 1
        names.append(name)
    return names


def tail_inputs(parts: Cut, inputs: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The tail's inputs from the graph's and the head's results: the pivots run here, through their references."""
    from graphc.interpret import run_node

    env: dict[Value, np.ndarray] = dict(zip((*parts.head.inputs, *parts.head.outputs), (*inputs, *results)))
    for node in parts.pivots:
        operands = [None if v is None else v.data if v.is_const else env[v] for v in node.inputs]
        env.update(zip(node.outputs, run_node(node, operands)))
    produced = [env[v] for n in parts.pivots for v in n.outputs]
    return [np.ascontiguousarray(a) if a.ndim else a for a in (*inputs, *results, *produced)]

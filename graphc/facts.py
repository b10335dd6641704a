"""Nodes and the graphs that they hold, with what they say about sizes said another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.attrs import Attrs
from graphc.graph import Graph, Node, Value

Change = Callable[[Any], Any]  # of a type, of an attribute that is no graph, of an element of a constant of sizes


def attrs_with_facts(node: Node, change: Change) -> Attrs:
    return Attrs({k: graph_with_facts(a, change) if isinstance(a, Graph) else change(a) for k, a in node.attrs.items()})


def graph_with_facts(graph: Graph, change: Change) -> Graph:
    """A held graph in which each value stays one value, whoever reads it."""
    values: dict[Value, Value] = {}

    def of(v: Value) -> Value:
        if v not in values:
            values[v] = replace(v, type=change(v.type), data=_data_with_facts(v.data, change))
        return values[v]

    def node_of(node: Node) -> Node:
        inputs = tuple(None if v is None else of(v) for v in node.inputs)
        return replace(node, inputs=inputs, outputs=tuple(map(of, node.outputs)), attrs=attrs_with_facts(node, change))

    inputs, nodes = tuple(map(of, graph.inputs)), tuple(map(node_of, graph.nodes))
    return replace(graph, inputs=inputs, nodes=nodes, outputs=tuple(map(of, graph.outputs)))


def _data_with_facts(data: np.ndarray | None, change: Change) -> np.ndarray | None:
    """Of a constant: one of sizes is an array of objects until it is one of int64."""
    if data is None or data.dtype != object:
        return data
    flat = [change(x) for x in data.flat]
    made = np.empty(len(flat), np.int64 if flat and all(isinstance(x, int) for x in flat) else object)
    made[:] = flat
    return made.reshape(data.shape)

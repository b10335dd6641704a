"""Binding: the same graph with its inputs' symbolic dims replaced by numbers and every type inferred again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from graphc.graph import Graph, Rewriter, Value, constant
from graphc.types import TensorType


def bind(graph: Graph, types: Mapping[str, TensorType | None], values: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph with the named inputs' types replaced, and those in `values` fixed to constants (shape-like inputs).

    A fixed input stays an input of the graph, so that the signature is the same; nothing reads it any more.
    """
    rw = Rewriter(graph)
    rw.inputs = [_retyped(v, types) for v in graph.inputs]
    for old, new in zip(graph.inputs, rw.inputs):
        fixed = (values or {}).get(old.name)
        rw.map[old] = new if fixed is None else constant(old.name, fixed)
    for node in graph.nodes:
        rw.copy(node)
    return rw.finish()


def _retyped(v: Value, types: Mapping[str, TensorType | None]) -> Value:
    return replace(v, type=types[v.name]) if v.name in types and types[v.name] != v.type else v

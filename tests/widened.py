"""A float32 graph in float64: what it means, without float32's rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.graph import Builder, Graph, Value

NARROW, WIDE = np.dtype(np.float32), np.dtype(np.float64)


def widened(graph: Graph) -> Graph:
    """The same nodes, bodies of control flow too, with all that is float32 in float64. Constants keep their numbers."""
    b = Builder(graph.name)
    values = {v: b.input(v.name, _dtype(v.dtype), v.shape) for v in graph.inputs}

    def wide(v: Value | None) -> Value | None:
        if v is None or not v.is_const:
            return v if v is None else values[v]
        if v not in values:
            values[v] = b.constant(v.data, _dtype(v.dtype), v.name)
        return values[v]

    for node in graph.nodes:
        attrs = {name: _attr(value) for name, value in node.attrs.items()}
        made = b.add(node.op, *map(wide, node.inputs), name=node.name, outputs=[v.name for v in node.outputs], **attrs)
        values |= zip(node.outputs, made if isinstance(made, tuple) else (made,))
    return b.build({name: wide(v) for name, v in zip(graph.output_names, graph.outputs)})


def _dtype(dtype: np.dtype) -> np.dtype:
    return WIDE if dtype == NARROW else dtype


def _attr(value: Any) -> Any:
    if isinstance(value, Graph):
        return widened(value)
    return _dtype(value) if isinstance(value, np.dtype) else value

"""Compute once what is computed twice: nodes of one operator on the same operands with the same attributes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.graph import Graph, Node, Value
from graphc.passes.log import Log, LogEntry
from graphc.passes.rewrite import Sweep, remove_dead

MAX_BYTES = 1024  # constants up to this size are compared by content, larger ones by identity of their arrays


@dataclass(frozen=True)
class CommonSubexpressions:
    name: str = "common_subexpressions"

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        seen: dict[Hashable, Node] = {}
        sweep, changed = Sweep(graph), False
        for node in graph.nodes:
            new = sweep.copy(node)
            if not node.deterministic:
                continue
            first = seen.setdefault(_key(new), new)
            if first is not new:
                changed = True
                for old, same in zip(node.outputs, first.outputs):
                    sweep.stands_for(old, same)
                if log is not None:
                    log.add(LogEntry(self.name, f"same as '{first.name}'", node.op.name, node.name))
        return remove_dead(sweep.finish()) if changed else graph


def _key(node: Node) -> Hashable:
    attrs = tuple(sorted((k, _content(v)) for k, v in node.attrs.items() if v is not None))
    operands = tuple(_operand(v, i in node.op.types_of) for i, v in enumerate(node.inputs))
    return node.op.name, operands, attrs, len(node.outputs)


def _operand(v: Value | None, type_alone: bool) -> Hashable:
    if type_alone and v is not None and v.type is not None:
        return v.type
    if v is None or not v.is_const:
        return id(v)
    return _content(v.data) if v.data.nbytes <= MAX_BYTES and v.data.dtype != object else ("array", id(v.data))


def _content(value: Any) -> Hashable:
    """Equal for equal attributes only: 1, 1.0 and True differ, NaN equals itself."""
    if isinstance(value, np.ndarray):
        return (
            "array",
            value.dtype.str,
            value.dtype.name,
            value.shape,
            value.tobytes() if value.dtype != object else tuple(value.flat),
        )
    if isinstance(value, Graph):
        return "graph", id(value)
    return type(value).__name__, repr(value)


common_subexpressions = CommonSubexpressions()

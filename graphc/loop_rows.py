"""Loops that collect a row per trip, of which only running can tell how many there are: their body is compiled all the same.

A program computes so many trips at most, with room for that many rows, and is called until the loop ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphc.executable import Executable
from graphc.graph import Graph, Node, Value, make_node
from graphc.segmented import CollectingLoop
from graphc.types import TensorType

ROOM = 1 << 20  # bytes of the rows of one call
MOST_ROWS = 4096


@dataclass(frozen=True, eq=False)
class LoopPart:
    """What becomes a CollectingLoop (see there) when its graph is compiled."""

    graph: Graph
    given: tuple[int, ...]
    rows: int
    states: int
    results: int

    def reads(self, position: int) -> bool:
        """Does the loop look at the node's operand, or does its program hold it?"""
        return position == 0 or position in self.given

    def of(self, program: Executable) -> CollectingLoop:
        types = tuple(v.type for v in self.graph.inputs)
        return CollectingLoop(program, self.given, types, self.rows, self.states, self.results)


def loop_part(node: Node, compiled: Callable[[Node], bool]) -> LoopPart | None:
    """Of a loop whose body kernels compute. compiled: do they compute a node?"""
    if node.op.name != "Loop" or any(v.type is None or not v.type.is_static for v in node.operands):
        return None
    body, n = node.attrs["body"], node.attrs["n_states"]
    items = [v.type for v in body.outputs[1 + n :]]
    if any(t is None or not t.is_static for t in items):
        return None
    rows = max(1, min(MOST_ROWS, ROOM // max(1, sum(t.nbytes for t in items))))
    # a call's states are the results of the one before
    given = [i for i, v in enumerate(node.inputs) if v is not None and (not v.is_const or 2 <= i < 2 + n)]
    inputs = {i: Value(f"operand {i}", node.inputs[i].type) for i in given}
    first = Value("first", TensorType(np.dtype(np.int64), ()))
    operands = [inputs.get(i, v) for i, v in enumerate(node.inputs)]
    attrs = {"body": body, "n_states": n, "rows": rows}
    names = [f"{node.name}.{k}" for k in range(len(body.outputs) + 1)]
    part = make_node("LoopRows", [first, *operands], attrs, name=node.name, outputs=names, source=node.source)
    if not compiled(part):
        return None
    graph = Graph(f"{node.name}/rows", (first, *inputs.values()), part.outputs, (part,), tuple(names))
    return LoopPart(graph, tuple(given), rows, n, len(node.outputs))

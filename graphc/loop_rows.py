"""Loops that collect a row per trip, of which only running can tell how many there are: their body is compiled all the same.

A program computes so many trips at most, with room for that many rows, and is called until the loop ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphc.executable import Executable
from graphc.graph import Graph, Node, Value, make_node
from graphc.report import Plan
from graphc.types import TensorType

ROOM = 1 << 20  # bytes of the rows of one call
MOST_ROWS = 4096


class CollectingLoop:
    """A Loop node, which takes and gives what its reference does."""

    def __init__(self, node: Node, given: Sequence[int], part: Graph, rows: int, program: Executable) -> None:
        """part: the graph of a LoopRows, compiled to `program`. Its inputs are the number of the first trip, then the node's
        operands at the positions `given`."""
        self._node, self._given, self._rows, self._program = node, given, rows, program
        self._types = [v.type for v in part.inputs]

    @property
    def plan(self) -> Plan:
        return self._program.plan

    def run(self, operands: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """Raises what a run of the body does."""
        values, n = list(operands), self._node.attrs["n_states"]
        limit = None if values[0] is None else int(values[0].reshape(()))
        first, collected = 0, []
        while True:
            arrays = (np.array(first, np.int64), *(values[i] for i in self._given))
            shaped = [np.ascontiguousarray(a).reshape(t.extents) for a, t in zip(arrays, self._types)]
            done, going, *results = self._program.run(shaped)
            count = int(done)
            first += count
            values[2 : 2 + n] = results[:n]
            collected.append([rows[:count] for rows in results[n:]])
            if not going or count < self._rows or first == limit:
                break
        return [*results[:n], *map(np.concatenate, zip(*collected))][: len(self._node.outputs)]


def collecting_loop(
    node: Node, compiled: Callable[[Node], bool], compile_part: Callable[[Graph], Executable]
) -> CollectingLoop | None:
    """The loop, if kernels compute its body. compiled: do they compute a node?"""
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
    return CollectingLoop(node, given, graph, rows, compile_part(graph))

"""States that grow in place: a session appends to them in memory with spare capacity, and copies nothing that is there.

A result `Concat(state, new, …)` whose first operand is the state's input begins with the same bytes. So a step's plan is given one
array for both, with room for more positions than the state has: what is there is read where it lies, and only what is new is
written, behind it. Which positions count, the hidden last input says, int64[states that grow], and the hidden last result says
what they are after the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.signature import Growth
from graphc.sizes import array_of, hint_of
from graphc.state import APPENDS

if TYPE_CHECKING:
    from graphc.classes import Many
    from graphc.graph import Graph, Node, Value

LENGTHS = "lengths of states"  # the hidden input and result


class CantGrow(Exception):
    """A state of a graph can't grow in place."""


class TooSmall(CantGrow):
    """The example's arrays have no room for the state after a step, which has `length` positions."""

    def __init__(self, length: int) -> None:
        super().__init__(f"no room for {length} positions")
        self.length = length


def growing(graph: Graph) -> tuple[Growth, ...]:
    """The inputs that results append to."""
    inputs = {v: v.name for v in graph.inputs if v.type is not None}
    producers = graph.producers()
    found = []
    for name, v in zip(graph.output_names, graph.outputs):
        part = _appended(producers[v], v) if v in producers else None
        if part is not None and part[0] in inputs and graph.output_names.count(name) == 1:
            found.append(Growth(inputs[part[0]], name, part[1]))
    return tuple(found)


def _appended(node: Node, result: Value) -> tuple[Value | None, int] | None:
    """The value that a node's result begins with, and the axis."""
    first = node.inputs[0] if node.inputs else None
    if node.op.name == "Concat" and first is not None and first.type is not None:
        return first, node.attrs["axis"] % first.type.rank
    for i, k, axis in APPENDS.get(node.op.name, ()):
        if k < len(node.outputs) and node.outputs[k] is result and i < len(node.inputs):
            return node.inputs[i], axis
    return None


def with_lengths(graph: Graph, many: Many) -> Graph:
    """A bound graph with the lengths as an input and a result. Raises CantGrow where it does not append to a state any more,
    and TooSmall."""
    from graphc.graph import Value, constant
    from graphc.types import TensorType

    known = growing(graph)
    lost = next((g for g in many.growing if g not in known), None)
    if lost is not None:
        raise CantGrow(f"'{lost.output}' is no Concat behind '{lost.input}'")
    results = dict(zip(graph.output_names, graph.outputs))
    after = [results[g.output].shape[g.axis] for g in many.growing]
    for n in after:  # one position stays free, so that these strides are never those of a value without spare room
        if not n < many.capacity:
            raise TooSmall(hint_of(n))
    given = Value(LENGTHS, TensorType(np.dtype(np.int64), (len(after),)))
    return replace(
        graph,
        inputs=(*graph.inputs, given),
        outputs=(*graph.outputs, constant(LENGTHS, array_of(after, np.int64))),
        output_names=(*graph.output_names, LENGTHS),
    )


def without_lengths(graph: Graph) -> tuple[Graph, tuple[Any, ...]]:
    """The graph that `with_lengths` gave without the lengths as a result, and they: sizes, which need no kernel."""
    *others, lengths = graph.outputs
    assert lengths.data is not None
    return replace(graph, outputs=tuple(others), output_names=graph.output_names[:-1]), tuple(lengths.data.tolist())


def results_of(graph: Graph, grown: Sequence[Growth]) -> list[tuple[str, Any]]:
    """Names and values of the results that a run hands out: all but the states that grew."""
    kept = {g.output for g in grown}
    return [(n, v) for n, v in zip(graph.output_names, graph.outputs) if n not in kept]

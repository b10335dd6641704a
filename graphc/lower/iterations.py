"""Loop and Scan: what a backend is to run again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.graph import Graph, Node, Value
from graphc.lower.held import dense, host_reason, types_of
from graphc.lower.lowering import Lowering
from graphc.lower.registry import Registry
from graphc.lower.storage import Ref, Storage
from graphc.sizes import largest, whole
from graphc.types import TensorType

ENDLESS = np.iinfo(np.int64).max  # trips
FLAG, COUNT = TensorType(np.dtype(bool), ()), TensorType(np.dtype(np.int64), ())


@dataclass(eq=False)
class Iterations:
    """What a Loop and a Scan are: a body, and where its inputs come from and its outputs go to.

    body      its inputs: the counter and the condition (of a Loop), states, elements, captures; its outputs: the condition (of a
              Loop), states, items
    trips     how many there are at most
    elements  a scanned operand each, by its storage, axis, and is it read from its end?
    items     a collected result each, alike; None for one that nobody reads
    part      (first, done, going), of trips that are some of a Loop's: where the number of the first one is, and where the number
              of trips and the last condition go
    """

    body: Graph
    trips: int
    initial: Sequence[Value]
    results: Sequence[Value]
    captures: Sequence[Value]
    limit: Ref | int = 0
    condition: Ref | int = 0
    counted: bool = False
    elements: Sequence[tuple[Storage, int, bool]] = ()
    items: Sequence[tuple[Storage, int, bool] | None] = ()
    part: tuple[Ref, Ref, Ref] | None = None
    ends: bool = field(init=False)

    def __post_init__(self) -> None:
        flag = self.body.outputs[0]
        self.ends = self.counted and not (flag.is_const and bool(np.all(flag.data)))

    @property
    def certain(self) -> bool:
        """Are there so many trips, whatever the data?"""
        return self.limit == self.condition == 0 and not self.ends and self.part is None


def loop_reason(rules: Registry, node: Node, target: Any = None) -> str | None:
    """Why a Loop must run on the host, or None."""
    body, n = node.attrs["body"], node.attrs["n_states"]
    states, collected = types_of(node.inputs[2 : 2 + n]), types_of(node.outputs[n:])
    limit = node.inputs[0]
    if limit is not None and limit.dtype != np.int64:
        return "its number of trips is not int64"
    if any(t is None or not t.is_static for t in collected):
        return "how much it collects follows from data"
    items = [t.with_shape(t.shape[1:]) for t in collected if t is not None]
    inputs = [COUNT, None, *states, *types_of(node.inputs[2 + n :])]
    return host_reason(rules, node, body, inputs, [None, *states, *items], "its body", target)


def loop_iterations(lo: Lowering, node: Node) -> Iterations:
    """Of a Loop."""
    body, n = node.attrs["body"], node.attrs["n_states"]
    limit, condition = node.inputs[:2]
    collected = [(lo.write(v), 0, False) for v in node.outputs[n:]]
    known = limit is not None and limit.is_const
    trips = largest(0, whole(limit.data.reshape(-1)[0])) if known else ENDLESS
    return Iterations(
        body, trips, node.inputs[2 : 2 + n], node.outputs[:n], node.inputs[2 + n :],
        limit=0 if limit is None or known else dense(lo, limit),
        condition=0 if condition is None or (condition.is_const and condition.data.all()) else dense(lo, condition),
        counted=True,
        items=_padded(collected, len(body.outputs) - 1 - n),
    )  # fmt: skip


def rows_reason(rules: Registry, node: Node, target: Any = None) -> str | None:
    """Why a part of a Loop must run on the host, or None."""
    body, n = node.attrs["body"], node.attrs["n_states"]
    limit = node.inputs[1]
    if limit is not None and limit.dtype != np.int64:
        return "its number of trips is not int64"
    states, rows = types_of(node.inputs[3 : 3 + n]), [v.type for v in node.outputs[2 + n :]]
    inputs = [COUNT, None, *states, *types_of(node.inputs[3 + n :])]
    results = [None, *states, *(t.with_shape(t.shape[1:]) for t in rows)]
    return host_reason(rules, node, body, inputs, results, "its body", target)


def rows_iterations(lo: Lowering, node: Node) -> Iterations:
    """Of a LoopRows."""
    body, n = node.attrs["body"], node.attrs["n_states"]
    first, limit, condition = node.inputs[:3]
    done, going, *results = node.outputs
    return Iterations(
        body, node.attrs["rows"], node.inputs[3 : 3 + n], results[:n], node.inputs[3 + n :],
        limit=0 if limit is None else dense(lo, limit), condition=0 if condition is None else dense(lo, condition),
        counted=True, items=[(lo.write(v), 0, False) for v in results[n:]],
        part=(dense(lo, first), lo.write(done).ref, lo.write(going).ref),
    )  # fmt: skip


def scan_reason(rules: Registry, node: Node, target: Any = None) -> str | None:
    """Why a Scan must run on the host, or None."""
    body, n, m = node.attrs["body"], node.attrs["n_states"], node.attrs["num_scan_inputs"]
    states, elements = types_of(node.inputs[:n]), [node.call.type(i) for i in range(n, n + m)]
    parts = [without(t, axis) for t, axis in zip(elements, _listed(node, "scan_input_axes", m))]
    collected = types_of(node.outputs[n:])
    known = [t for t in collected if t is not None]
    if len(known) < len(collected):
        return "the type of what it collects follows from data"
    items = [without(t, axis) for t, axis in zip(known, _listed(node, "scan_output_axes", len(known)))]
    inputs = [*states, *parts, *types_of(node.inputs[n + m :])]
    return host_reason(rules, node, body, inputs, [*states, *items], "its body", target)


def scan_iterations(lo: Lowering, node: Node) -> Iterations:
    """Of a Scan."""
    body, n, m = node.attrs["body"], node.attrs["n_states"], node.attrs["num_scan_inputs"]
    scanned, collected = node.inputs[n : n + m], node.outputs[n:]
    axes, back = _listed(node, "scan_input_axes", m), _listed(node, "scan_input_directions", m)
    elements = [(lo.read(v), a % v.type.rank, bool(b)) for v, a, b in zip(scanned, axes, back)]
    axes = _listed(node, "scan_output_axes", len(collected))
    back = _listed(node, "scan_output_directions", len(collected))
    items = [(lo.write(v), a % v.type.rank, bool(b)) for v, a, b in zip(collected, axes, back)]
    s, axis, _ = elements[0]
    return Iterations(
        body, s.type.extents[axis], node.inputs[:n], node.outputs[:n], node.inputs[n + m :],
        elements=elements, items=_padded(items, len(body.outputs) - n),
    )  # fmt: skip


def _listed(node: Node, key: str, n: int) -> Sequence[int]:
    return node.attrs[key] or [0] * n


def without(t: TensorType, axis: int) -> TensorType:
    axis %= t.rank
    return t.with_shape((*t.shape[:axis], *t.shape[axis + 1 :]))


def _padded(items: list[Any], count: int) -> list[Any]:
    return items + [None] * (count - len(items))

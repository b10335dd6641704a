"""Graphs that If, Loop and Scan hold: which of them kernels compute, and their steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from graphc.graph import Graph, Node, Value
from graphc.lower.elementwise import row_major
from graphc.lower.fuse import Group
from graphc.lower.group import lower_group
from graphc.lower.lowering import Lowering
from graphc.lower.placement import place_result
from graphc.lower.program import Program
from graphc.lower.registry import Registry, moved_dtypes
from graphc.lower.storage import Ref, Storage
from graphc.report import StepInfo
from graphc.types import TensorType

Types = Sequence["TensorType | None"]


def types_of(values: Sequence[Value | None]) -> list[TensorType | None]:
    return [None if v is None else v.type for v in values]


def inside(what: str, node: Node, reason: str) -> str:
    """Why what holds a node runs on the host: a reason of the node's own, which may begin with its operator."""
    own = reason.removeprefix(f"{node.op.name} ")
    return f"{what} has {node.op.name} '{node.name}'{f', which {own}' if own != reason else f': {reason}'}"


def host_reason(
    rules: Registry, node: Node, graph: Graph, inputs: Types, results: Types, what: str, target: Any
) -> str | None:
    """Why a node that runs this held graph must run on the host, or None.

    inputs, results: the types that the graph's must be, None for those that may be any.
    """
    values = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    if any(v.type is None or not v.type.is_static for v in values):
        return f"sizes within {what} are not known"
    for v, t in (*zip(graph.inputs, inputs), *zip(graph.outputs, results)):
        if t is not None and v.type != t:
            return f"'{v.name}' of {what} is {v.type}, and {t} elsewhere"
    for inner in graph.nodes:
        if reason := rules.host_reason(inner, target):
            return inside(what, inner, reason)
    return moved_dtypes(node)


BRANCHES = {"then_branch": "then", "else_branch": "else"}


def branch_reason(rules: Registry, node: Node, target: Any = None) -> str | None:
    """Why an If must be planned for the branch that it takes, or None."""
    captures, results = types_of(node.inputs[1:]), types_of(node.outputs)
    reasons = (
        host_reason(rules, node, node.attrs[key], captures, results, f"the {name} branch", target)
        for key, name in BRANCHES.items()
    )
    return next((r for r in reasons if r), None)


def wanted_of(graph: Graph, results: Sequence[Storage | None]) -> tuple[Graph, list[Storage]]:
    """A held graph with the results that somebody needs, and where they are to be."""
    wanted = [(v, s) for v, s in zip(graph.outputs, results) if s is not None]
    outputs = tuple(v for v, _ in wanted)
    return replace(graph, outputs=outputs, output_names=tuple(v.name for v in outputs)), [s for _, s in wanted]


def place_held(
    inner: Lowering,
    graph: Graph,
    groups: Sequence[Group],
    given: Sequence[Storage | None],
    results: Sequence[Storage],
    in_place: bool = True,
) -> None:
    """Say where the inputs of a held graph are (None for those that it does not read), and where its outputs are to be. in_place:
    may kernels write them there?"""
    read = {v for g in groups for v in g.inputs} | set(graph.outputs)
    for v, s in zip(graph.inputs, given):
        if s is not None and v in read:
            inner.place(v, row_major(inner, s).ref)  # most kernels take operands in one piece
    made = {o: g for g in groups for n in g.nodes for o in n.outputs}
    for v, s in zip(graph.outputs, results):
        if in_place and s.contiguous:
            place_result(inner, v, s.ref, made, native=True)


def lower_held(inner: Lowering, graph: Graph, groups: Sequence[Group], results: Sequence[Storage]) -> Program:
    """The steps that compute a held graph, whose values are placed."""
    for group in groups:
        lower_group(inner, group, None)
    for v, s in zip(graph.outputs, results):
        _hand_on(inner, v, s)
    inner.program.made.clear()  # the next run makes these values again
    return inner.program


def _hand_on(inner: Lowering, v: Value, to: Storage) -> None:
    """A result that lies elsewhere: a constant, an input, a view, a value that is two results, or one in other strides."""
    x = inner.read(v)
    if x.ref == to.ref and x.strides == to.strides:
        return
    t = TensorType(v.type.dtype, v.type.extents)
    reason = "to where it is handed on from"
    info = StepInfo(0, (), ("Copy",), "copy_strided", "", reason, v.name, 0, 2 * t.nbytes)
    inner.copy(x.ref, x.strides, to.ref, to.strides, t.extents, t.dtype.itemsize, info)


def dense(lo: Lowering, v: Value) -> Ref:
    """A value in contiguous memory."""
    return row_major(lo, lo.read(v)).ref

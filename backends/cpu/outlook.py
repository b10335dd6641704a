"""What will become of nodes whose shapes only the inputs, or running, can tell: as far as it is known before."""

from __future__ import annotations

from dataclasses import replace

from graphc.backends.cpu.native import host_reason, kernel_operators
from graphc.backends.cpu.target import Target
from graphc.bounded import bounded
from graphc.graph import Graph, Node, Value
from graphc.op import Deferred
from graphc.report import Pending
from graphc.segments import branches
from graphc.types import MaybeNone, Sym

GUESS = (
    8  # a size in place of those that are not known: whether there is a kernel hangs on dtypes, ranks and attributes
)


def outlook(graph: Graph, target: Target) -> tuple[Pending, ...]:
    """Every node of the graph, in order."""
    planned: set[Value] = set()  # computed when shapes are known, before anything runs
    return tuple(_pending(node, target, planned) for node in graph.nodes)


def _pending(node: Node, target: Target, planned: set[Value]) -> Pending:
    host, reason = _where(node, target, planned)
    results = ", ".join(str(v.type or "?") for v in node.outputs)
    return Pending(node.name, node.op.name, results, host, reason)


def _where(node: Node, target: Target, planned: set[Value]) -> tuple[bool, str]:
    """(on the host?, why)."""
    constant = all(v.is_const or v in planned for v in node.operands) and not node.op.holds_graphs
    if node.op.type_only or (constant and node.op.deterministic):
        planned.update(node.outputs)
        return False, "computed as soon as shapes are known"
    if branches(node):
        return False, "the branch that is taken is compiled"
    if _follows_from_data(node):
        reason = _without_bound(node, target)
        return reason is not None, reason or ""
    native = node.op.name in kernel_operators() or node.op.elementwise
    if not native and node.op.expand is not None:
        return False, "compiled as the operators that it stands for"
    try:
        reason = host_reason(_guessed(node), target, pending=True)
    except Deferred:  # not even the dtype is known
        reason = None if native else f"{node.op.name} has no CPU kernel"
    return reason is not None, reason or ""


def _follows_from_data(node: Node) -> bool:
    """Has a result a dim that the operator named after itself (see `graphc.ops.index.dim_of_data`)?"""
    dims = (d for v in node.outputs if v.type is not None for d in v.type.shape)
    return any(isinstance(d, Sym) and str(d).startswith(f"{node.op.name}(") for d in dims)


def _without_bound(node: Node, target: Target) -> str | None:
    """Why no kernel computes a node whose result's size follows from data, or None."""
    form = (
        bounded(replace(node, inputs=tuple(map(_sized, node.inputs)))) if node.op.name in kernel_operators() else None
    )
    return (
        "the shape of its result follows from data" if form is None else host_reason(form.static, target, pending=True)
    )


def _guessed(node: Node) -> Node:
    return replace(node, inputs=tuple(map(_sized, node.inputs)), outputs=tuple(map(_sized, node.outputs)))


def _sized(v: Value | MaybeNone) -> Value | MaybeNone:
    if v is None or v.type is None or v.type.is_static:
        return v
    return replace(v, type=v.type.with_shape([GUESS if isinstance(d, Sym) else d for d in v.type.shape]))

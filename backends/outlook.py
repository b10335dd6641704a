"""What will become of nodes whose shapes only the inputs, or running, can tell: as far as it is known before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from graphc.bounded import bounded
from graphc.graph import Graph, Node, Value
from graphc.lower.held import inside
from graphc.lower.registry import Registry
from graphc.objects import ObjectType, is_object
from graphc.op import Deferred
from graphc.passes.dissolve_objects import arranging, dissolving
from graphc.passes.widen import widened
from graphc.report import Pending
from graphc.segments import branches
from graphc.types import MaybeNone, Sym

GUESS = (
    8  # a size in place of those that are not known: whether there is a kernel hangs on dtypes, ranks and attributes
)


def outlook(graph: Graph, rules: Registry, target: Any = None) -> tuple[Pending, ...]:
    """Every node of the graph, in order. rules: of the backend, all of them loaded; target: what they are asked with."""
    return _Outlook(rules, target).of(graph)


@dataclass(frozen=True)
class _Outlook:
    rules: Registry
    target: Any

    def of(self, graph: Graph) -> tuple[Pending, ...]:
        planned: set[Value] = set()  # computed when shapes are known, before anything runs
        apart = _taken_apart(graph)
        return tuple(self._pending(node, planned, node in apart) for node in graph.nodes)

    def _pending(self, node: Node, planned: set[Value], apart: bool) -> Pending:
        host, reason = (
            (False, "its elements are known when the model is called") if apart else self._where(node, planned)
        )
        results = ", ".join(str(v.type or "?") for v in node.outputs)
        return Pending(node.name, node.op.name, results, host, reason)

    def _has_kernel(self, node: Node) -> bool:
        return node.op.name in self.rules.operators()

    def _host_reason(self, node: Node) -> str | None:
        reason = self.rules.host_reason(node, self.target, pending=True)
        wide = None if reason is None else widened(node)
        return reason if wide is None or self.rules.host_reason(wide, self.target, pending=True) else None

    def _where(self, node: Node, planned: set[Value]) -> tuple[bool, str]:
        """(on the host?, why)."""
        constant = all(v.is_const or v in planned for v in node.operands) and not node.op.holds_graphs
        if node.op.type_only or (constant and node.op.deterministic):
            planned.update(node.outputs)
            return False, "computed as soon as shapes are known"
        if branches(node):
            return False, "the branch that is taken is compiled"
        missing = f"{node.op.name} has no {self.rules.name} kernel"
        if node.op.holds_graphs:
            return self._held(node) if self._has_kernel(node) else (True, missing)
        if _follows_from_data(node):
            reason = self._without_bound(node)
            return reason is not None, reason or ""
        native = self._has_kernel(node) or node.op.elementwise
        if not native and node.op.expand is not None:
            return False, "compiled as the operators that it stands for"
        guessed = _guessed(node)
        try:
            known = all(v.type is not None for v in (*guessed.operands, *guessed.outputs))
            reason = self._host_reason(guessed) if known or not native else None
        except Deferred:  # not even the dtype is known
            reason = None if native else missing
        return reason is not None, reason or ""

    def _held(self, node: Node) -> tuple[bool, str]:
        """A Loop or a Scan, or an If of a known condition: compiled where all of its body is."""
        for graph in node.attrs.values():
            if not isinstance(graph, Graph):
                continue
            planned: set[Value] = set()
            for inner in graph.nodes:
                host, reason = self._where(inner, planned)
                if host:
                    return True, inside("its body", inner, reason)
        n, first = node.attrs.get("n_states", 0), 2 if node.op.name == "Loop" else 0
        for before, after in zip(node.inputs[first : first + n], node.outputs):
            if before.type != after.type:
                return True, f"'{before.name}' does not keep its shape"
        return False, ""

    def _without_bound(self, node: Node) -> str | None:
        """Why no kernel computes a node whose result's size follows from data, or None."""
        form = bounded(replace(node, inputs=tuple(map(_sized, node.inputs)))) if self._has_kernel(node) else None
        return "the shape of its result follows from data" if form is None else self._host_reason(form.static)


def _taken_apart(graph: Graph) -> set[Node]:
    """Operators on sequences and optionals of which nothing is left when the model is called."""
    given = [v for v in graph.inputs if isinstance(v.type, ObjectType) and v.type.kind != "map"]
    apart = {n for n in dissolving(graph, given) if all(v.is_const or v in graph.inputs for v in arranging(n))}
    whole = {v for n in graph.nodes if n not in apart for v in n.operands}
    for node in reversed(graph.nodes):
        if node in apart and any(v in whole and is_object(v.type) for v in node.outputs):
            apart.remove(node)
            whole.update(node.operands)
    return apart


def _follows_from_data(node: Node) -> bool:
    """Has a result a dim that the operator named after itself (see `graphc.ops.index.dim_of_data`)?"""
    dims = (d for v in node.outputs if v.type is not None for d in v.type.shape)
    return any(isinstance(d, Sym) and str(d).startswith(f"{node.op.name}(") for d in dims)


def _guessed(node: Node) -> Node:
    return replace(node, inputs=tuple(map(_sized, node.inputs)), outputs=tuple(map(_sized, node.outputs)))


def _sized(v: Value | MaybeNone) -> Value | MaybeNone:
    if v is None or v.type is None or v.type.is_static:
        return v
    return replace(v, type=v.type.with_shape([GUESS if isinstance(d, Sym) else d for d in v.type.shape]))

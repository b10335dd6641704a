"""What will become of nodes whose shapes only the inputs can tell."""

from __future__ import annotations

from graphc.backends.cuda.lower.registry import RULES, host_reason
from graphc.graph import Graph, Node
from graphc.op import Deferred
from graphc.report import Pending


def outlook(graph: Graph) -> tuple[Pending, ...]:
    """Every node of the graph, in order."""
    return tuple(_pending(node) for node in graph.nodes)


def _pending(node: Node) -> Pending:
    results = ", ".join(str(v.type or "?") for v in node.outputs)
    reason = _reason(node)
    return Pending(node.name, node.op.name, results, reason is not None, reason or "")


def _reason(node: Node) -> str | None:
    if node.op.type_only:
        return None
    native = node.op.name in RULES.operators() or node.op.elementwise
    if not native and node.op.expand is not None:
        return None
    try:
        return host_reason(node, pending=True)
    except Deferred:
        return None if native else f"{node.op.name} has no CUDA kernel"

"""Which nodes kernels compute, and why the others run on the host."""

from __future__ import annotations

from graphc.backends.cpu.lower.registry import operators, unsupported
from graphc.backends.cpu.target import Target
from graphc.fuse import MOST_OPERANDS
from graphc.graph import Graph, Node
from graphc.lower.registry import load, native_dtypes
from graphc.op import Kind


def load_lowerings() -> None:
    for package in ("graphc.lower", "graphc.backends.cpu.lower"):
        load(package)


def kernel_operators() -> frozenset[str]:
    """Operators with kernels of their own, which need no decomposition."""
    load_lowerings()
    return operators()


def host_reason(node: Node, target: Target, pending: bool = False) -> str | None:
    """Why a node runs on the host, or None. pending: it is not planned yet."""
    load_lowerings()
    if node.op.kind is Kind.ELEMENTWISE and node.op.scalar is not None:
        if len(node.inputs) > MOST_OPERANDS:
            return f"more than {MOST_OPERANDS} operands"
        return native_dtypes(node)
    return unsupported(node, target, pending)


def is_native(graph: Graph, target: Target) -> bool:
    """Do kernels compute all of it?"""
    return not any(v.is_const for v in graph.outputs) and all(host_reason(n, target) is None for n in graph.nodes)

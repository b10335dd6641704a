"""Which nodes kernels compute, and why the others run on the host."""

from __future__ import annotations

from graphc.backends.cpu import families
from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.target import Target
from graphc.graph import Graph, Node
from graphc.lower import registry
from graphc.sizes import is_size_array

LOOKUPS = frozenset({"ByteTable"})  # elementwise operators that passes make where the backend computes them quickly


def load_lowerings() -> None:
    registry.load("graphc.lower")
    families.load("")


def kernel_operators() -> frozenset[str]:
    """Operators with kernels of their own, which need no decomposition."""
    load_lowerings()
    return RULES.operators() | LOOKUPS


def host_reason(node: Node, target: Target, pending: bool = False) -> str | None:
    """Why a node runs on the host, or None. pending: it is not planned yet."""
    load_lowerings()
    return RULES.host_reason(node, target, pending)


def is_native(graph: Graph, target: Target) -> bool:
    """Do kernels compute all of it?"""
    always = any(v.is_const and not is_size_array(v.data) for v in graph.outputs)
    return not always and all(host_reason(n, target) is None for n in graph.nodes)

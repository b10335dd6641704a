"""Which nodes kernels compute, and why the others run on the host."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from graphc.backends.cpu.lower import registry
from graphc.backends.cpu.target import Target
from graphc.fuse import MOST_OPERANDS
from graphc.graph import Graph, Node


@lru_cache(maxsize=1)
def load_lowerings() -> None:
    import graphc.backends.cpu.lower as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def kernel_operators() -> frozenset[str]:
    """Operators with kernels of their own, which need no decomposition."""
    load_lowerings()
    return registry.operators()


def host_reason(node: Node, target: Target, pending: bool = False) -> str | None:
    """Why a node runs on the host, or None. pending: it is not planned yet."""
    load_lowerings()
    if node.op.elementwise:
        if len(node.inputs) > MOST_OPERANDS:
            return f"more than {MOST_OPERANDS} operands"
        return registry.native_dtypes(node)
    return registry.unsupported(node, target, pending)


def is_native(graph: Graph, target: Target) -> bool:
    """Do kernels compute all of it?"""
    return not any(v.is_const for v in graph.outputs) and all(host_reason(n, target) is None for n in graph.nodes)

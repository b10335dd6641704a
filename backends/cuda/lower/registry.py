"""What lowers each operator for the GPU: the neutral rules, and the backend's own over them."""

from __future__ import annotations

from typing import Any

from graphc.backends.cuda.kernel import load
from graphc.graph import Node
from graphc.lower import registry
from graphc.lower.registry import NEUTRAL, Registry

RULES = Registry("CUDA", NEUTRAL)
lowers = RULES.lowers


def load_lowerings() -> None:
    registry.load("graphc.lower")
    load("")


def host_reason(node: Node, target: Any = None, pending: bool = False) -> str | None:
    """Why no CUDA kernel computes a node, or None. pending: it is not planned yet."""
    load_lowerings()
    return RULES.host_reason(node, target, pending)

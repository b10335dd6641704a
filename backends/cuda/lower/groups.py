"""From a graph to groups of nodes that become one kernel each."""

from __future__ import annotations

from collections.abc import Callable

from graphc.backends.cuda.lower.epilogue import accepts_operand
from graphc.backends.cuda.lower.registry import RULES
from graphc.graph import Graph, Node
from graphc.lower.fuse import Group, fuse
from graphc.report import FusionNote


def grouped(graph: Graph, compiled: Callable[[Node], bool]) -> tuple[list[Group], list[FusionNote]]:
    """And why others do not. compiled: does a kernel compute a node?"""
    return fuse(graph, _has_epilogue, accepts_operand, compiled)


def _has_epilogue(node: Node) -> bool:
    rule = RULES.rule_of(node)
    return rule is not None and rule.epilogue is not None and rule.epilogue(node)

"""From a bound graph to groups of nodes: layouts and fusion as the CPU's kernels want them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphc.backends.cpu.lower.policy import Choice, Policy
from graphc.backends.cpu.lower.rules import accepts_operand, converts, layout_rules, takes_epilogue, takes_prologue
from graphc.backends.cpu.target import Target
from graphc.graph import Graph, Node
from graphc.lower.fuse import MAX_NODES, Group, fuse
from graphc.lower.layout import assign_layouts, reorder_each
from graphc.report import FusionNote


def laid_out(graph: Graph, target: Target, policy: Policy, choices: Mapping[str, Choice]) -> Graph:
    """Channel blocks, halos, and Reorder nodes at the borders of blocked regions. choices: as `choices_of` finds them."""
    assign = assign_layouts if policy.uses("layout") else reorder_each
    return assign(graph, layout_rules(target, choices))


def grouped(
    graph: Graph,
    target: Target,
    policy: Policy,
    choices: Mapping[str, Choice],
    compiled: Callable[[Node], bool],
) -> tuple[list[Group], list[FusionNote]]:
    """Nodes that become one kernel, and why others do not. compiled: does a kernel compute a node?"""
    uses = policy.uses
    return fuse(
        graph,
        lambda n: uses("epilogues") and compiled(n) and takes_epilogue(n),
        accepts_operand,
        compiled,
        lambda n: uses("prologues") and compiled(n) and takes_prologue(n, target, choices),
        converts=converts,
        max_nodes=MAX_NODES if uses("fusion") else 1,
    )

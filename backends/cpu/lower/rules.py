"""What the CPU's kernels want of layout and fusion, for the backend-neutral passes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphc.backends.cpu.conv.conv_planes import takes_no_operands
from graphc.backends.cpu.lower.policy import Choice, Policy
from graphc.backends.cpu.lower.registry import RULES, follows_blocks, rule_of
from graphc.backends.cpu.product import product_epilogue
from graphc.backends.cpu.target import Target
from graphc.dtypes import FLOAT32
from graphc.graph import Graph, Node, Value
from graphc.lower.layout import LayoutRules


def choices_of(graph: Graph, target: Target, policy: Policy) -> dict[str, Choice]:
    """The algorithm of each node that has a choice, by the name of its result: layout makes new nodes."""
    found = {}
    for node in graph.nodes:
        rule = rule_of(node)
        if rule is not None and rule.choose is not None and _form(node, target):
            found[node.output.name] = rule.choose(node, target, policy)
    return found


def layout_rules(target: Target, choices: Mapping[str, Choice]) -> LayoutRules:
    def halo(node: Node) -> tuple[int, int]:
        rule = rule_of(node)
        return (0, 0) if rule is None or rule.halo is None else rule.halo(node, choices.get(node.output.name))

    c = target.lanes(FLOAT32)  # a vector of the storage type
    return LayoutRules(c, lambda node: _form(node, target), halo, lambda node: follows_blocks(node, c))


def _form(node: Node, target: Target) -> str | None:
    rule = rule_of(node)
    if rule is None or rule.form is None or RULES.host_reason(node, target):
        return None
    return rule.form(node, target)


def takes_epilogue(node: Node) -> bool:
    rule = rule_of(node)
    if rule is None or rule.epilogue is None:
        return False
    return (node.output.dtype == np.float32 or rule.converts is not None) and rule.epilogue(node)


def converts(node: Node) -> bool:
    """May the epilogue of an anchor, and its operands, have other dtypes than its sums?"""
    rule = rule_of(node)
    return rule is not None and rule.converts is not None


def takes_prologue(node: Node, target: Target, choices: Mapping[str, Choice]) -> bool:
    rule, choice = rule_of(node), choices.get(node.output.name)
    if rule is None or rule.prologue is None or choice is None:
        return False
    return takes_epilogue(node) and rule.prologue(node, target, choice)


def accepts_operand(anchor: Node, v: Value, out: Value) -> str | None:
    """A full tensor of the result's layout, or one number per channel (or column)."""
    rule = rule_of(anchor)
    if rule is not None and rule.converts is not None:
        return rule.converts(v, out)
    if v.dtype != np.float32:
        return f"dtype {v.dtype}"
    if takes_no_operands(anchor):
        return "pixels are in the lanes"
    if out.type.layout is None:
        return product_epilogue.accepts_epilogue_operand(v, out)
    if v.type.layout is None and not v.is_const:
        return "it is not blocked"
    shape = (1,) * (out.type.rank - v.type.rank) + v.shape
    if shape == out.shape and not v.is_const:
        return None
    if shape[1] == out.shape[1] and all(d == 1 for d in shape[2:]) and shape[0] in (1, out.shape[0]):
        return None
    return f"shape {v.shape} is neither the result's nor one number per channel"

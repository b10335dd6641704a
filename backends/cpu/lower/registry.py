"""What the CPU backend does with each operator: a record per operator, made beside the function that lowers it.

A module of this package registers with `@lowers("Op", …)` a function (Lowering, Group) -> None that emits the steps of a
group whose anchor is that operator. A node for which `supported(node, target)` gives a reason runs on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.policy import Choice, Policy
from graphc.backends.cpu.target import Target
from graphc.dtypes import WHOLE_BYTES, names
from graphc.fuse import Group
from graphc.graph import Node, Value
from graphc.types import Blocked

Lower = Callable[[Lowering, Group], None]


@dataclass(frozen=True)
class Rule:
    """How an operator is lowered, and what of that layout, fusion and placement must know.

    supported  (node, target) -> None, or why this use has no kernel
    form       (node, target) -> as `LayoutRules.form`: for kernels of packed operands
    choose     (node, target, policy) -> the algorithm of a node with a form
    halo       (node, choice) -> as `LayoutRules.halo`
    epilogue   (node) -> can its kernel end in an expression? Of float32 results
    prologue   (node, target, choice) -> can its first operand be an expression? Of nodes with an epilogue
    view       its result has the bytes of its first operand, in the same order
    aliases    its results may lie in the memory of its first operand; so do views
    """

    lower: Lower
    supported: Callable[[Node, Target], str | None] | None = None
    form: Callable[[Node, Target], str | None] | None = None
    choose: Callable[[Node, Target, Policy], Choice] | None = None
    halo: Callable[[Node, Choice | None], tuple[int, int]] | None = None
    epilogue: Callable[[Node], bool] | None = None
    prologue: Callable[[Node, Target, Choice], bool] | None = None
    view: bool = False
    aliases: bool = False


@dataclass(frozen=True)
class BlockedRule:
    """A second lowering, for operands that are blocked already. form(node, c): as `LayoutRules.follows`, for blocks of c
    channels."""

    lower: Lower
    form: Callable[[Node, int], str | None]


_RULES: dict[str, Rule] = {}
_BLOCKED: dict[str, BlockedRule] = {}


def lowers(*ops: str, **facts: Any) -> Callable[[Lower], Lower]:
    """Register the lowering of operators. facts: fields of `Rule`."""

    def register(fn: Lower) -> Lower:
        for op in ops:
            assert op not in _RULES, op
            _RULES[op] = Rule(fn, **facts)
        return fn

    return register


def lowers_blocked(*ops: str, form: Callable[[Node, int], str | None]) -> Callable[[Lower], Lower]:
    """Register a second lowering of operators. form: see `BlockedRule`."""

    def register(fn: Lower) -> Lower:
        for op in ops:
            assert op not in _BLOCKED, op
            _BLOCKED[op] = BlockedRule(fn, form)
        return fn

    return register


def operators() -> frozenset[str]:
    """Operators with a lowering."""
    return frozenset(_RULES)


def rule_of(node: Node) -> Rule | None:
    return _RULES.get(node.op.name)


def follows_blocks(node: Node, c: int) -> str | None:
    """How a node takes a blocked operand, or None if it wants it dense."""
    found = _BLOCKED.get(node.op.name)
    return found.form(node, c) if found and node.output.dtype == np.float32 else None


def lowering_of(node: Node) -> Lower:
    """What lowers a node whose operands have their layouts."""
    found = _BLOCKED.get(node.op.name)
    return found.lower if found and is_blocked(node.inputs[0]) else _RULES[node.op.name].lower


def unsupported(node: Node, target: Target, pending: bool = False) -> str | None:
    """Why a node must run on the host, or None. pending: it is not planned yet; rows of numbers will be constants then."""
    rule = rule_of(node)
    if rule is None:
        return f"{node.op.name} has no CPU kernel"
    for i in node.op.values:
        if node.call.has(i) and not node.inputs[i].is_const and not (pending and len(node.inputs[i].shape) <= 1):
            return f"its '{node.op.inputs[i].rstrip('?')}' follows from data"
    return rule.supported(node, target) if rule.supported else None


# what kernels compute with: float16 and bfloat16 in float32 (codegen/ir.py)
NATIVE = {*names("float", bits=range(16, 65)), *names("int", "uint", "bool", bits=WHOLE_BYTES)}


def native_dtypes(node: Node, target: Target | None = None) -> str | None:
    """None if every operand and result has a dtype that kernels compute with."""
    for v in (*node.operands, *node.outputs):
        if v.dtype.name not in NATIVE:
            return f"dtype {v.dtype.name} has no machine code"
    return None


def is_blocked(v: Value) -> bool:
    return isinstance(v.type.layout, Blocked)

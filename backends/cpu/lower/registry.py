"""What the CPU lowers itself, beside what graphc/lower does: the operators whose kernels hang on its registers and caches, and
second lowerings for operands in blocks of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphc.lower.registry import NEUTRAL, Registry
from graphc.types import Blocked

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.graph import Node, Value
    from graphc.lower.fuse import Group

    Lower = Callable[[CpuLowering, Group], None]


@dataclass(frozen=True)
class BlockedRule:
    """A second lowering, for operands that are blocked already. form(node, c): as `LayoutRules.follows`, for blocks of c
    channels."""

    lower: Lower
    form: Callable[[Node, int], str | None]


_BLOCKED: dict[str, BlockedRule] = {}


def lowers_blocked(*ops: str, form: Callable[[Node, int], str | None]) -> Callable[[Lower], Lower]:
    """Register a second lowering of operators. form: see `BlockedRule`."""

    def register(fn: Lower) -> Lower:
        for op in ops:
            assert op not in _BLOCKED, op
            _BLOCKED[op] = BlockedRule(fn, form)
        return fn

    return register


def follows_blocks(node: Node, c: int) -> str | None:
    """How a node takes a blocked operand, or None if it wants it dense."""
    found = _BLOCKED.get(node.op.name)
    return found.form(node, c) if found and node.output.dtype == np.float32 else None


def is_blocked(v: Value) -> bool:
    return isinstance(v.type.layout, Blocked)


class CpuRegistry(Registry):
    def lowering_of(self, node: Node) -> Lower:
        found = _BLOCKED.get(node.op.name)
        if found is None or not is_blocked(node.inputs[0]):
            return super().lowering_of(node)
        found.form(
            node, node.inputs[0].type.blocks.c
        )  # what the form was chosen by is taken account of (graphc/unread.py)
        return found.lower


RULES = CpuRegistry("CPU", NEUTRAL)
lowers, rule_of = RULES.lowers, RULES.rule_of

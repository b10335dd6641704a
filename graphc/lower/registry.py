"""What lowers each operator: a record per operator, made beside the function that does it.

A module of this package registers with `@lowers("Op", …)` a function (Lowering, Group) -> None that emits the steps of a
group whose anchor is that operator, through the verbs that every backend has. A backend has a `Registry` of its own: over these,
what it lowers itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from graphc.dtypes import MOVED, NATIVE, STORED
from graphc.expr import rounded
from graphc.graph import Node, Value
from graphc.lower.fuse import MOST_OPERANDS, scalar_of
from graphc.op import Op, all_ops
from graphc.own import PARTS, mistakes, note

if TYPE_CHECKING:
    from graphc.lower.fuse import Group

    Lower = Callable[[Any, Group], None]  # the context is the backend's own kind of Lowering


@dataclass(frozen=True)
class Rule:
    """How an operator is lowered, and what of that layout, fusion and placement must know. `target`, `choice` and `policy` are
    a backend's own.

    supported  (node, target) -> None, or why this use has no kernel
    form       (node, target) -> as `LayoutRules.form`: for kernels of packed operands
    choose     (node, target, policy) -> the algorithm of a node with a form
    halo       (node, choice) -> as `LayoutRules.halo`
    epilogue   (node) -> can its kernel end in an expression? Of float32 results
    converts   of kernels with sums in another dtype, which the expression may convert, as it may its operands: (value, result) ->
               None, or why it can't read a value there
    prologue   (node, target, choice) -> can its first operand be an expression? Of nodes with an epilogue
    view       its result has the bytes of its first operand, in the same order
    aliases    its results may lie in the memory of its first operand; so do views
    channels_last  (node) -> which images [N, C, *spatial] may have their channels innermost in memory: 'read', its operands;
               'write', its result; 'packed', both, where the result has no gaps; 'any', also with gaps (as part of a
               concatenation); '' none
    """

    lower: Lower
    supported: Callable[[Node, Any], str | None] | None = None
    form: Callable[[Node, Any], str | None] | None = None
    choose: Callable[[Node, Any, Any], Any] | None = None
    halo: Callable[[Node, Any], tuple[int, int]] | None = None
    epilogue: Callable[[Node], bool] | None = None
    converts: Callable[[Value, Value], str | None] | None = None
    prologue: Callable[[Node, Any, Any], bool] | None = None
    view: bool = False
    aliases: bool = False
    channels_last: Callable[[Node], str] = lambda node: ""


class Registry:
    """Rules by operator: those of `base`, and its own."""

    def __init__(self, name: str, base: Registry | None = None) -> None:
        self.name = name
        self._own: dict[str, Rule] = {}
        self._by_fact: list[tuple[Callable[[Op], bool], Rule]] = []
        self._base = base

    def lowers(self, *ops: str, **facts: Any) -> Callable[[Lower], Lower]:
        """Register the lowering of operators. facts: fields of `Rule`."""

        def register(fn: Lower) -> Lower:
            for op in ops:
                assert op not in self._own, op
                self._own[op] = Rule(fn, **facts)
                note(self._own[op])
            return fn

        return register

    def lowers_where(self, fact: Callable[[Op], bool], **facts: Any) -> Callable[[Lower], Lower]:
        """Register the lowering of all operators of which the fact holds, also of those that are registered later."""

        def register(fn: Lower) -> Lower:
            self._by_fact.append((fact, Rule(fn, **facts)))
            return fn

        return register

    def rule_of(self, node: Node) -> Rule | None:
        found = self._own.get(node.op.name) or next((rule for fact, rule in self._by_fact if fact(node.op)), None)
        return found if found or self._base is None else self._base.rule_of(node)

    def operators(self) -> frozenset[str]:
        """Operators with a lowering."""
        found = {*self._own, *(n for n, op in all_ops().items() if any(fact(op) for fact, _ in self._by_fact))}
        return frozenset(found) | (self._base.operators() if self._base else frozenset())

    def host_reason(self, node: Node, target: Any, pending: bool = False) -> str | None:
        """Why a node must run on the host, or None. pending: it is not planned yet; rows of numbers will be constants then."""
        if node.op.elementwise:
            if len(node.inputs) > MOST_OPERANDS:
                return f"more than {MOST_OPERANDS} operands"
            return _elementwise_dtypes(node)
        rule = self.rule_of(node)
        if rule is None:
            return f"{node.op.name} has no {self.name} kernel"
        for i in node.op.values:
            if node.call.has(i) and not node.inputs[i].is_const and not (pending and len(node.inputs[i].shape) <= 1):
                return f"its '{node.op.inputs[i].rstrip('?')}' follows from data"
        with self.mistakes(node, "supported"):
            return rule.supported(node, target) if rule.supported else None

    def mistakes(self, node: Node, part: str) -> AbstractContextManager[None]:
        """Where a function of the node's rule is called: what fails is told as a user's mistake if the rule comes from outside."""
        rule = self.rule_of(node)
        return mistakes(node.op.name, part) if any(rule is p for p in PARTS) else nullcontext()

    def lowering_of(self, node: Node) -> Lower:
        """What lowers a node whose operands have their layouts."""
        rule = self.rule_of(node)
        assert rule is not None, node.op.name
        return rule.lower


NEUTRAL = Registry("neutral")
lowers = NEUTRAL.lowers


@lru_cache
def load(package: str) -> None:
    """Import all modules of a package, which register their rules."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def native_dtypes(node: Node, target: Any = None) -> str | None:
    """None if every operand and result has a dtype that kernels compute with."""
    return _dtypes_in(NATIVE, node)


def stored_dtypes(node: Node, target: Any = None) -> str | None:
    """None if every operand and result has a dtype that kernels load and store."""
    return _dtypes_in(NATIVE | STORED, node)


def moved_dtypes(node: Node, target: Any = None) -> str | None:
    """None if every operand and result has a dtype that kernels move."""
    return _dtypes_in(MOVED, node)


def _dtypes_in(known: Collection[str], node: Node) -> str | None:
    for v in (*node.operands, *node.outputs):
        if v.dtype.name not in known:
            return f"dtype {v.dtype.name} has no machine code"
    return None


def _elementwise_dtypes(node: Node) -> str | None:
    """Of small types, kernels compute what needs no rounding: so it does not matter what is fused."""
    reason = native_dtypes(node)
    if reason is None or stored_dtypes(node):
        return reason
    small = sorted(d.name for d in rounded(scalar_of(node)) if d.name in STORED)
    return f"kernels only convert, compare and choose {small[0]}: insert Casts" if small else None

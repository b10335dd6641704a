"""The machinery of rewrites: a pass is a set of rules, each for the operators that it begins at.

A rule sees a node whose operands have been rewritten already, so chains collapse in one sweep from the inputs on. It
looks back (`sweep.producer(value)`), never forward, and gives replacements of the node's outputs, a `Skip` that says
why it did not apply, or None where there is nothing to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol, Union

import numpy as np

from graphc.dtypes import is_float
from graphc.graph import Graph, Node, Rewriter, Value
from graphc.op import Deferred, Op
from graphc.passes.log import Log, LogEntry
from graphc.types import MaybeNone

MAX_TURNS = 32  # rewrites of one node's replacement in one sweep


class Pass(Protocol):
    """Graph -> Graph, with a name. Without anything to do it returns the graph that it was given."""

    @property
    def name(self) -> str: ...

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph: ...


@dataclass(frozen=True)
class Skip:
    """The rule matched, and this is why it did not apply."""

    reason: str


def _accepts_none(node: Node) -> bool:
    return False


class Sweep(Rewriter):
    """A Rewriter that can look back: who makes a new value, and who reads it. accepts: see `Rewrite`."""

    def __init__(self, graph: Graph, accepts: Callable[[Node], bool] = _accepts_none) -> None:
        super().__init__(graph)
        self.accepts = accepts
        self._makers: dict[Value, Node] = {}
        self._indexed = 0
        self._reads = Counter(v for n in graph.nodes for v in n.operands)
        self._reads.update(graph.outputs)
        self._names: set[str] | None = None

    def producer(self, v: Value | None, *ops: str) -> Node | None:
        """The node that makes a new value, if it is one of `ops` (any, where none are named)."""
        while self._indexed < len(self.nodes):
            made = self.nodes[self._indexed]
            self._makers.update((out, made) for out in made.outputs)
            self._indexed += 1
        node = None if v is None else self._makers.get(v)
        return node if node is not None and (not ops or node.op.name in ops) else None

    def is_read(self, v: Value) -> bool:
        """Does a node or a result need the value?"""
        return self._reads[v] > 0

    def sole(self, v: Value) -> bool:
        """Does nothing but the node at hand read the new value? (Being a result counts as being read.)"""
        return self._reads[v] <= 1

    def stands_for(self, old: Value, new: Value) -> None:
        """From here on `new` is read in the place of `old`."""
        self.map[old] = new
        if new is not old:
            self._reads[new] += self._reads[old]

    def copy(self, node: Node) -> Node:
        new = super().copy(node)
        for a, b in zip(node.outputs, new.outputs):
            self.stands_for(a, b)
        return new

    def remake(
        self, node: Node, *inputs: Value | None, op: str | Op | None = None, attrs: Mapping | None = None
    ) -> Value:
        """A one-output node in the place of `node`: same names and source, other operands or attributes.

        `attrs` change the node's own, unless there is another `op`: then they are all.
        """
        if op is None:
            op, attrs = node.op, {**node.attrs, **(attrs or {})}
        return self.add(op, *inputs, name=node.name, outputs=[node.output.name], source=node.source, **(attrs or {}))

    def inlined(
        self,
        graph: Graph,
        operands: Sequence[Value | None],
        prefix: str,
        names: Mapping[Value, str] = MappingProxyType({}),
    ) -> list[Value | MaybeNone]:
        """The results of a held graph, whose nodes are copied here, over these operands. names: of results; other names begin with
        the prefix."""
        new: dict[Value, Value | None] = dict(zip(graph.inputs, operands))
        for node in graph.nodes:
            made = self.add(
                node.op,
                *(None if v is None else new.get(v, v) for v in node.inputs),
                name=f"{prefix}/{node.name}",
                outputs=[names.get(v, f"{prefix}/{v.name}") for v in node.outputs],
                source=node.source,
                **node.attrs,
            )
            new.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))
        return [new.get(v, v) for v in graph.outputs]

    def reshaped(self, v: Value, shape: Sequence[int]) -> Value:
        return v if v.shape == tuple(shape) else self.add("Reshape", v, self.constant(shape, np.int64), allowzero=True)

    def _fresh(self, stem: str) -> str:
        """Not in the graph yet, also where an earlier sweep has replaced the same node."""
        if self._names is None:
            self._names = {v.name for v in self.graph.values()} | {n.name for n in self.graph.nodes}
        name = super()._fresh(stem)
        while name in self._names:
            name = super()._fresh(stem)
        return name


Rule = Callable[[Node, Sweep], Union[Value, Sequence[Value], Skip, None]]


@dataclass(frozen=True, eq=False)
class Rewrite:
    """A pass made of rules. What the rewrites leave unread is removed at once, so that it does not count as a reader.

    makes: of a fusion (graphc/passes/fuse_*.py, and others that say so), the operator that others become. It runs for backends with a kernel for that.
    accepts: does the backend compile a node as it was made? For uses that not every kernel of the operator has.

    >>> drop = Rewrite("drop_identity")
    >>> @drop.on("Identity")
    ... def same(node, sweep):
    ...     return node.inputs[0]
    """

    name: str
    rules: dict[str, list[Rule]] = field(default_factory=dict, repr=False)
    makes: str = ""
    accepts: Callable[[Node], bool] = _accepts_none

    def on(self, *ops: str) -> Callable[[Rule], Rule]:
        """Decorator: the rule begins at these operators ('*' for all). Rules are tried in the order written."""

        def register(rule: Rule) -> Rule:
            for op in ops:
                self.rules.setdefault(op, []).append(rule)
            return rule

        return register

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        sweep, changed = Sweep(graph, self.accepts), False
        for node in graph.nodes:
            sweep.prefix, sweep.source = f"{node.name or node.outputs[0].name}/", node.source
            start = sweep.copy(node)
            values = self._apply(start, sweep, log)
            if values is not None:
                changed = True
                for old, new in zip(node.outputs, values):
                    sweep.stands_for(old, new)
        return remove_dead(sweep.finish()) if changed else graph

    def _apply(self, node: Node, sweep: Sweep, log: Log | None) -> tuple[Value, ...] | None:
        """Replacements of the node's outputs; a replacement that is a new node is rewritten again."""
        values = None
        for _ in range(MAX_TURNS):
            before = len(sweep.nodes)
            new = self._turn(node, sweep, log)
            if new is None:
                break
            values = new
            made = sweep.producer(new[0])
            if len(new) != 1 or made is None or made not in sweep.nodes[before:] or len(made.outputs) != 1:
                break
            node = made
        return values

    def _turn(self, node: Node, sweep: Sweep, log: Log | None) -> tuple[Value, ...] | None:
        for rule in (*self.rules.get(node.op.name, ()), *self.rules.get("*", ())):
            try:
                result = rule(node, sweep)
            except Deferred as unknown:
                result = Skip(f"{unknown} is not known before the inputs are bound")
            if result is None:
                continue
            reason = result.reason if isinstance(result, Skip) else ""
            if log is not None:
                log.add(LogEntry(self.name, rule.__name__, node.op.name, node.name, reason))
            if not reason:
                return (result,) if isinstance(result, Value) else tuple(result)
        return None


def remove_dead(graph: Graph) -> Graph:
    """The graph without nodes whose outputs nothing reads. Inputs stay: they are the signature."""
    needed: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.outputs):
            kept.append(node)
            needed.update(node.operands)
    if len(kept) == len(graph.nodes):
        return graph
    return replace(graph, nodes=tuple(reversed(kept)))


# --- questions that rules ask -----------------------------------------------------------------------------------------
def same_type(a: Value, b: Value) -> bool:
    """Are both types known, equal, and without dims of unknown size?"""
    return a.type is not None and a.type == b.type and "?" not in str(a.type)


def not_negative(v: Value, sweep: Sweep) -> bool:
    """Is the value of a floating-point type and made by an operator whose results are never below 0? (The least signed
    integer has a negative Abs.)"""
    maker = sweep.producer(v)
    return maker is not None and maker.op.laws.not_negative and is_float(v.dtype)


def all_equal(v: Value | None, number: float) -> bool:
    """Is the value a constant with every element equal to the number? Zeros of floats are told apart by their sign."""
    if v is None or not v.is_const or v.data.dtype == object or v.data.size == 0 or not np.all(v.data == number):
        return False
    return number != 0 or not is_float(v.dtype) or bool(np.all(np.signbit(v.data) == np.signbit(number)))

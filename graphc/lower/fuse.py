"""Fusion: nodes of a graph -> groups, each of which a backend lowers to one kernel.

A group is an *anchor* (convolution, matrix product, …) with an *epilogue* of elementwise nodes that follow it, or elementwise
nodes alone. The epilogue is one expression tree over the anchor's result and the other operands of the fused nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from graphc import expr
from graphc.expr import Expr
from graphc.graph import Graph, Node, Value
from graphc.own import FILES, mistake, mistakes
from graphc.report import FusionNote
from graphc.sizes import hint_of, is_size_array
from graphc.types import MaybeNone, TensorType, broadcast

MAX_OPERANDS = 8  # of one kernel's expression
MAX_NODES = 16  # of one elementwise kernel
MAX_OPEN = 12  # nodes taken in on trial before their values must join again
MAX_TREE = 200  # primitives of an epilogue, counted with repetition
MAX_KERNEL = 2000  # of an elementwise kernel
MAX_DEPTH = 160  # of its tree: whoever walks one may do so by recursion
MOST_OPERANDS = 64  # of one elementwise node


@dataclass(frozen=True, eq=False)
class Group:
    """Nodes that become one kernel.

    anchor: None for elementwise nodes alone; what lowers anchors takes it as given. expression: the output from arg 0 = the
    anchor's result (anchored groups only) and the operands after it; None where the anchor has no epilogue. nodes: the anchor
    first, then in order of the graph. prologue: elementwise nodes alone, whose result only the anchor reads, as its first
    operand; `nodes` does not list them.
    """

    nodes: tuple[Node, ...]
    anchor: Node | MaybeNone
    expression: Expr | None
    operands: tuple[Value, ...]
    prologue: Group | None = None

    @property
    def every_node(self) -> tuple[Node, ...]:
        """In order of execution."""
        return (*(self.prologue.nodes if self.prologue else ()), *self.nodes)

    @property
    def output(self) -> Value:
        return self.nodes[-1].outputs[0]

    @property
    def inputs(self) -> list[Value]:
        """Every value that the kernel reads, once."""
        inside = {v for n in self.every_node for v in n.outputs}
        return list(dict.fromkeys(v for n in self.every_node for v in n.operands if v not in inside))

    def __repr__(self) -> str:
        return f"Group({' + '.join(n.op.name for n in self.every_node)} -> %{self.output.name})"


# May `value` be read as an operand of the epilogue of a kernel whose result is `output`? Returns None, or why not.
Accepts = Callable[[Node, Value, Value], "str | None"]


def fuse(
    graph: Graph,
    takes_epilogue: Callable[[Node], bool],
    accepts: Accepts,
    compiled: Callable[[Node], bool],
    takes_prologue: Callable[[Node], bool] = lambda node: False,
    converts: Callable[[Node], bool] = lambda node: False,
    max_nodes: int = MAX_NODES,
) -> tuple[list[Group], list[FusionNote]]:
    """Groups in execution order, and why each elementwise node was fused or not.

    takes_epilogue(node): the backend's kernel for this anchor can end in an expression. accepts(anchor, value, output):
    it can read `value` there. compiled(node): the backend has code for this elementwise node. takes_prologue(node): the
    anchor's first operand may be an expression of values that `accepts` admits. converts(node): the expression may have another dtype
    than the anchor's result, and so may its operands, which it may compute from what is smaller in memory. max_nodes: of an
    elementwise kernel.
    """
    return _Fuser(graph, takes_epilogue, accepts, compiled, takes_prologue, converts, max_nodes).run()


class _Fuser:
    def __init__(
        self,
        graph: Graph,
        takes_epilogue: Callable[[Node], bool],
        accepts: Accepts,
        compiled: Callable[[Node], bool],
        takes_prologue: Callable[[Node], bool],
        converts: Callable[[Node], bool],
        max_nodes: int,
    ) -> None:
        self.max_nodes, self.converts = max_nodes, converts
        self.graph, self.takes_epilogue, self.accepts, self.compiled = graph, takes_epilogue, accepts, compiled
        self.takes_prologue = takes_prologue
        self.consumers = graph.consumers()
        self.results = set(graph.outputs)
        self.position = {n: i for i, n in enumerate(graph.nodes)}
        self.owner: dict[Node, Node] = {}  # fused node -> the last node of its group
        self.notes: list[FusionNote] = []

    def run(self) -> tuple[list[Group], list[FusionNote]]:
        groups: dict[Node, Group] = {}  # by the group's last node, at whose place it runs
        # Later anchors first: of the two convolutions before a residual addition, the later one takes it, so that the
        # other operand exists when its kernel runs.
        for node in reversed(self.graph.nodes):
            if node not in self.owner and self.takes_epilogue(node):
                group = self._grow(node)
                for n in group.nodes:
                    self.owner[n] = group.nodes[-1]
                groups[group.nodes[-1]] = group
        for node in reversed(self.graph.nodes):
            if node in self.owner:
                continue
            group = self._elementwise_tree(node) if self._is_elementwise(node) else Group((node,), node, None, ())
            for n in group.nodes:
                self.owner[n] = node
            groups[node] = group
        for last, group in list(groups.items()):
            if group.anchor is not None and self.takes_prologue(group.anchor):
                self._take_prologue(groups, last, group)
        return [groups[n] for n in self.graph.nodes if n in groups], self.notes

    def _take_prologue(self, groups: dict[Node, Group], last: Node, group: Group) -> None:
        """Let the anchor compute its first operand, where it is the only one to read it."""
        anchor = group.anchor
        assert anchor is not None
        v = anchor.inputs[0]
        maker = self.producers.get(v)
        before = None if maker is None else groups.get(maker)
        if maker is None or before is None or before.anchor is not None:
            return
        where = f"{anchor.op.name} '{anchor.name}'"
        if v in self.results or self.consumers[v] != [anchor]:
            reason = f"%{v.name} is also needed outside"
        else:
            reasons = ((u, self.accepts(anchor, u, v)) for u in before.operands)
            reason = next((f"operand %{u.name}: {why}" for u, why in reasons if why), "")
        if reason:
            self.notes.append(FusionNote(maker.name, False, f"not into the input of {where}: {reason}"))
            return
        self.notes += [
            FusionNote(n.name, True, f"prologue of {where}, a step of its own where that is faster")
            for n in before.nodes
        ]
        del groups[maker]
        groups[last] = replace(group, prologue=before)

    def _is_elementwise(self, node: Node) -> bool:
        return node.op.elementwise and self.compiled(node)

    def _grow(self, anchor: Node) -> Group:
        """The anchor and the elementwise nodes behind it, as many as leave one value to the outside.

        A value may be read several times as long as all its readers are inside (x * sigmoid(x), a Gelu written out): nodes
        are taken in by position, and the longest run is kept after which only the last value is read elsewhere.
        """
        if len(anchor.outputs) > 1:
            return Group((anchor,), anchor, None, ())
        nodes = [anchor]
        operands: list[Value] = []
        trees: dict[Value, Expr] = {anchor.output: expr.arg(0, anchor.output.dtype)}
        closed, closed_operands = 1, 0
        reason = ""
        while len(nodes) - closed < MAX_OPEN:
            readers = {r for v in trees for r in self.consumers.get(v, ()) if r not in nodes}
            if not readers:
                break
            node = min(readers, key=self.position.__getitem__)
            before = self._converted_operands(node, anchor, trees) if self.converts(anchor) else []
            reason = next(
                filter(None, (self._refusal(n, anchor, trees, operands, before) for n in (*before, node))), ""
            )
            if reason:
                break
            for n in before:
                trees[n.output] = scalar_tree(
                    n, [self._operand(v, operands, 1) if v not in trees else trees[v] for v in n.inputs]
                )
                nodes.append(n)
            args = [trees[v] if v in trees else self._operand(v, operands, 1) for v in node.inputs]
            trees[node.output] = scalar_tree(node, args)
            nodes.append(node)
            if size(trees[node.output]) > MAX_TREE:
                reason = "the expression is too long"
                break
            if self._closed(nodes):
                closed, closed_operands = len(nodes), len(operands)
        self._note(anchor, nodes[1:closed], reason)
        nodes = [anchor, *sorted(nodes[1:closed], key=self.position.__getitem__)]
        tree = trees[nodes[-1].output] if closed > 1 else None
        return Group(tuple(nodes), anchor, tree, tuple(operands[:closed_operands]))

    def _closed(self, nodes: Sequence[Node]) -> bool:
        """Does nothing outside read any value but the last?"""
        inside = set(nodes)
        values = [v for n in nodes[:-1] for v in n.outputs]
        return all(v not in self.results and all(r in inside for r in self.consumers.get(v, ())) for v in values)

    def _note(self, anchor: Node, fused: Sequence[Node], reason: str) -> None:
        where = f"{anchor.op.name} '{anchor.name}'"
        self.notes += [FusionNote(n.name, True, f"epilogue of {where}") for n in fused]
        for n in () if fused else dict.fromkeys(self.consumers.get(anchor.output, ())):
            if n.op.elementwise:
                why = reason or f"%{anchor.output.name} is also needed outside"
                self.notes.append(FusionNote(n.name, False, f"not into {where}: {why}"))

    def _converted_operands(self, node: Node, anchor: Node, inside: Mapping[Value, Expr]) -> list[Node]:
        """Elementwise nodes, in order, that make an operand of a node for it alone out of a value with smaller elements."""
        for v in node.operands:
            found: list[Node] = []
            source, reader = v, node
            while source not in inside and source not in self.results and self.consumers.get(source) == [reader]:
                maker = self.producers.get(source)
                if maker is None or maker in self.owner or not self._is_elementwise(maker):
                    break
                others = [u for u in maker.operands if not _is_immediate(u)]
                if len(others) != 1 or others[0].shape != v.shape or v.shape != anchor.output.shape:
                    break
                found, source, reader = [maker, *found], others[0], maker
                if source.dtype.itemsize < v.dtype.itemsize:
                    return found
        return []

    def _refusal(
        self, node: Node, anchor: Node, inside: Mapping[Value, Expr], operands: Sequence[Value], before: Sequence[Node]
    ) -> str:
        if not self._is_elementwise(node):
            return f"{node.op.name} is not elementwise"
        if node in self.owner:
            return "it is fused elsewhere"
        out = anchor.output
        made = node.output.type.with_dtype(out.dtype) if self.converts(anchor) else node.output.type
        if not same_elements(made, out.type):
            return f"it changes the type from {out.type} to {node.output.type}"
        others = [v for v in node.operands if v not in inside and not _is_immediate(v)]
        if len(set(operands) | set(others)) > MAX_OPERANDS:
            return "too many operands"
        for v in (v for v in others if not any(v is n.output for n in before)):
            why = self.accepts(anchor, v, out)
            if why:
                return f"operand %{v.name}: {why}"
        return ""

    def _elementwise_tree(self, root: Node) -> Group:
        """The node with those of its elementwise producers that nothing outside reads."""
        most = self.max_nodes
        while True:
            nodes = self._producers_of(root, most)
            operands: list[Value] = []
            trees: dict[Value, Expr] = {}
            for n in nodes:
                args = [trees[v] if v in trees else self._operand(v, operands, 0) for v in n.inputs]
                trees[n.output] = scalar_tree(n, args)
            tree = trees[root.output]
            if len(nodes) == 1 or (size(tree) <= MAX_KERNEL and depth(tree) <= MAX_DEPTH):
                break
            most = len(nodes) - 1
        where = f"one kernel with {root.op.name} '{root.name}'"
        self.notes += [FusionNote(n.name, True, where) for n in nodes[:-1]]
        return Group(tuple(nodes), None, tree, tuple(operands))

    def _producers_of(self, root: Node, most: int) -> list[Node]:
        """At most so many nodes that one kernel may compute, the root the last."""
        nodes = [root]
        grown = True
        while grown:
            grown = False
            for v in dict.fromkeys(v for n in nodes for v in n.operands):
                producer = self.producers.get(v)
                if producer is None or producer in nodes or len(nodes) >= most:
                    continue
                if self._absorbs(producer, v, nodes):
                    nodes.append(producer)
                    grown = True
        return sorted(nodes, key=self.position.__getitem__)

    @cached_property
    def producers(self) -> dict[Value, Node]:
        return self.graph.producers()

    def _absorbs(self, producer: Node, v: Value, nodes: Sequence[Node]) -> bool:
        if producer in self.owner or not self._is_elementwise(producer):
            return False
        if v in self.results or any(r not in nodes for r in self.consumers[v]):
            return False
        root = nodes[0]
        made = {o for n in nodes for o in n.outputs}
        read = {u for n in (*nodes, producer) for u in n.operands if not _is_immediate(u)} - made - {v}
        a, b = v.type, root.output.type  # the same element must be at hand; its dtype may change on the way
        return len(read) <= MAX_OPERANDS and same_elements(a.with_dtype(b.dtype), b)

    def _operand(self, v: Value | None, operands: list[Value], base: int) -> Expr | None:
        if v is None:
            return None
        if _is_immediate(v):
            return immediate(v)
        if v not in operands:
            operands.append(v)
        return expr.arg(base + operands.index(v), v.dtype)


def size(e: Expr) -> int:
    """Primitives of a tree; what is shared counts each time."""
    return _measured(e, lambda parts: 1 + sum(parts))


def depth(e: Expr) -> int:
    """Primitives from the root to the farthest leaf."""
    return _measured(e, lambda parts: 1 + max(parts, default=0))


def _measured(e: Expr, measure: Callable[[list[int]], int]) -> int:
    """A measure of a tree from those of its parts, each of which is looked at once, however often it is shared."""
    done: dict[int, int] = {}
    stack = [e]
    while stack:
        part = stack[-1]
        waits = [a for a in part.args if id(a) not in done]
        if waits:
            stack += waits
        else:
            done[id(part)] = measure([done[id(a)] for a in part.args])
            stack.pop()
    return done[id(e)]


def _is_immediate(v: Value) -> bool:
    """A constant of one element becomes part of the code, unless it stands for many."""
    return v.is_const and v.data.size == 1 and not is_size_array(v.data)


def immediate(v: Value) -> Expr:
    """A constant of one element as an expression."""
    return expr.const(np.asarray(v.data).reshape(-1)[0].item(), v.dtype)


def same_elements(a: TensorType, b: TensorType) -> bool:
    """Equal dtype, shape and layout; the halo may differ, since kernels write where the last value of a group lives."""
    return a.dtype == b.dtype and a.shape == b.shape and (a.layout and a.layout.c) == (b.layout and b.layout.c)


def scalar_of(node: Node) -> Expr:
    """The node's scalar body over its operands; constants of one element are numbers."""

    def operand(i: int, v: Value | None) -> Expr | None:
        return None if v is None else immediate(v) if _is_immediate(v) else expr.arg(i, v.dtype)

    return scalar_tree(node, [operand(i, v) for i, v in enumerate(node.inputs)])


def _is_broadcast(node: Node) -> bool:
    """Has its result the shape to which its operands broadcast?"""
    shapes = [tuple(map(hint_of, v.shape)) for v in node.operands]
    try:
        return broadcast(*shapes) == tuple(map(hint_of, node.output.shape))
    except ValueError:
        return False


def scalar_tree(node: Node, args: Sequence[Expr | None]) -> Expr:
    """The node's scalar body over expressions of its operands."""
    assert node.op.scalar is not None
    if node.op.name in FILES and not _is_broadcast(node):
        shapes = " and ".join(str(v.type) for v in node.operands)
        text = f"it has a `scalar`, so its result has the shape to which {shapes} broadcast, not {node.output.type}"
        raise mistake(node.op.name, text).located(node=node.name)
    with mistakes(node.op.name, "scalar"):
        tree = node.op.scalar(*args, **{k: node.attrs[k] for k in node.op.scalar_attrs})
        if not isinstance(tree, (Expr, bool, int, float, np.number, np.bool_)):
            raise TypeError(f"it gives {tree!r}, which is no expression and no number")
        if not isinstance(tree, Expr):  # a body that does not depend on its operands
            tree = expr.const(tree, node.output.dtype)
        return expr.cast(tree, node.output.dtype)

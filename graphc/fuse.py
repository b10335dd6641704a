"""Fusion: nodes of a graph -> groups, each of which a backend lowers to one kernel.

A group is an *anchor* (convolution, matrix product, …) with an *epilogue* of elementwise nodes that follow it, or elementwise
nodes alone. The epilogue is one expression tree over the anchor's result and the other operands of the fused nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphc import expr
from graphc.expr import Expr
from graphc.graph import Graph, Node, Value
from graphc.op import Kind
from graphc.report import FusionNote
from graphc.types import TensorType

MAX_OPERANDS = 8  # of one kernel's expression


@dataclass(frozen=True, eq=False)
class Group:
    """Nodes that become one kernel.

    expression: the output from arg 0 = the anchor's result (anchored groups only) and the operands after it; None where
    the anchor has no epilogue. nodes: the anchor first, then in order of the graph.
    """

    nodes: tuple[Node, ...]
    anchor: Node | None
    expression: Expr | None
    operands: tuple[Value, ...]

    @property
    def output(self) -> Value:
        return self.nodes[-1].outputs[0]

    @property
    def inputs(self) -> list[Value]:
        """Every value that the kernel reads, once."""
        inside = {v for n in self.nodes for v in n.outputs}
        return list(dict.fromkeys(v for n in self.nodes for v in n.operands if v not in inside))

    def __repr__(self) -> str:
        return f"Group({' + '.join(n.op.name for n in self.nodes)} -> %{self.output.name})"


# May `value` be read as an extra operand of a kernel whose result is `output`? Returns None, or why not.
Accepts = Callable[[Node, Value, Value], "str | None"]


def fuse(
    graph: Graph, takes_epilogue: Callable[[Node], bool], accepts: Accepts, compiled: Callable[[Node], bool]
) -> tuple[list[Group], list[FusionNote]]:
    """Groups in execution order, and why each elementwise node was fused or not.

    takes_epilogue(node): the backend's kernel for this anchor can end in an expression. accepts(anchor, value, output):
    it can read `value` there. compiled(node): the backend has code for this elementwise node.
    """
    return _Fuser(graph, takes_epilogue, accepts, compiled).run()


class _Fuser:
    def __init__(self, graph: Graph, takes_epilogue, accepts, compiled) -> None:
        self.graph, self.takes_epilogue, self.accepts, self.compiled = graph, takes_epilogue, accepts, compiled
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
        return [groups[n] for n in self.graph.nodes if n in groups], self.notes

    def _is_elementwise(self, node: Node) -> bool:
        return node.op.kind is Kind.ELEMENTWISE and node.op.scalar is not None and self.compiled(node)

    def _only_consumer(self, value: Value) -> Node | str:
        """The single node that reads a value, or why there is none."""
        readers = self.consumers.get(value, [])
        if value in self.results:
            return f"%{value.name} is a result of the graph"
        if len(set(readers)) != 1:
            return f"%{value.name} is read {len(readers)} times"
        return readers[0]

    def _grow(self, anchor: Node) -> Group:
        """The anchor and the longest chain of elementwise nodes behind it."""
        nodes = [anchor]
        out = anchor.output
        tree, operands = expr.arg(0, out.dtype), []
        if len(anchor.outputs) > 1:
            return Group((anchor,), anchor, None, ())
        while True:
            node = self._only_consumer(out)
            reason = node if isinstance(node, str) else self._refusal(node, anchor, out, operands)
            if reason:
                if not isinstance(node, str) and node.op.kind is Kind.ELEMENTWISE:
                    self.notes.append(FusionNote(node.name, False, f"not into {anchor.op.name} '{anchor.name}': {reason}"))
                break
            args = [tree if v is out else self._operand(v, operands, 1) for v in node.inputs]
            tree = scalar_tree(node, args)
            self.notes.append(FusionNote(node.name, True, f"epilogue of {anchor.op.name} '{anchor.name}'"))
            nodes.append(node)
            out = node.output
        return Group(tuple(nodes), anchor, tree if len(nodes) > 1 else None, tuple(operands))

    def _refusal(self, node: Node, anchor: Node, out: Value, operands: Sequence[Value]) -> str | None:
        if not self._is_elementwise(node):
            return f"{node.op.name} is not elementwise"
        if node in self.owner:
            return "it is fused elsewhere"
        if not same_elements(node.output.type, out.type):
            return f"it changes the type from {out.type} to {node.output.type}"
        others = [v for v in node.operands if v is not out and not _is_immediate(v)]
        if len(set(operands) | set(others)) > MAX_OPERANDS:
            return "too many operands"
        for v in others:
            why = self.accepts(anchor, v, out)
            if why:
                return f"operand %{v.name}: {why}"
        return None

    def _elementwise_tree(self, root: Node) -> Group:
        """The node with those of its elementwise producers that nothing else reads."""
        nodes, operands = [root], []

        def build(node: Node) -> Expr:
            return scalar_tree(node, [None if v is None else leaf(v, node) for v in node.inputs])

        def leaf(v: Value, reader: Node) -> Expr:
            producer = self.producers.get(v)
            if producer is not None and self._absorbs(producer, v, root, len(operands)):
                if producer not in nodes:
                    nodes.append(producer)
                    self.notes.append(FusionNote(producer.name, True, f"one kernel with {root.op.name} '{root.name}'"))
                return build(producer)
            return self._operand(v, operands, 0)

        tree = build(root)
        return Group(tuple(sorted(nodes, key=self.position.__getitem__)), None, tree, tuple(operands))

    @property
    def producers(self) -> dict[Value, Node]:
        if not hasattr(self, "_producers"):
            self._producers = self.graph.producers()
        return self._producers

    def _absorbs(self, producer: Node, v: Value, root: Node, count: int) -> bool:
        if producer in self.owner or not self._is_elementwise(producer) or count + len(producer.inputs) > MAX_OPERANDS:
            return False
        if isinstance(self._only_consumer(v), str):
            return False
        a, b = v.type, root.output.type  # the same element must be at hand; its dtype may change on the way
        return same_elements(a.with_dtype(b.dtype), b)

    def _operand(self, v: Value | None, operands: list[Value], base: int) -> Expr | None:
        if v is None:
            return None
        if _is_immediate(v):
            return expr.const(np.asarray(v.data).reshape(-1)[0].item(), v.dtype)
        if v not in operands:
            operands.append(v)
        return expr.arg(base + operands.index(v), v.dtype)


def _is_immediate(v: Value) -> bool:
    """A constant of one element becomes part of the code."""
    return v.is_const and v.data.size == 1


def same_elements(a: TensorType, b: TensorType) -> bool:
    """Equal dtype, shape and layout; the halo may differ, since kernels write where the last value of a group lives."""
    return a.dtype == b.dtype and a.shape == b.shape and (a.layout and a.layout.c) == (b.layout and b.layout.c)


def scalar_tree(node: Node, args: Sequence[Expr | None]) -> Expr:
    """The node's scalar body over expressions of its operands."""
    tree = node.op.scalar(*args, **{k: node.attrs[k] for k in node.op.scalar_attrs})
    if not isinstance(tree, Expr):  # a body that does not depend on its operands
        tree = expr.const(tree, node.output.dtype)
    return expr.cast(tree, node.output.dtype)

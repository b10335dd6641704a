"""Convolutions of float32 in bfloat16, and what lies between them:

    Conv(x, w) + b   becomes   ConvPairs(Cast(x), Cast(w)) + b

where the sums stay float32 up to the end of the epilogue. A value that such a convolution reads is rounded once, as it is made, and
whoever else reads it reads what was rounded, inputs of the graph apart; what moves elements or compares them does it in bfloat16, and means are convolutions
by ones. Other images on the way from one convolution to the next are rounded where they go through memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dtypes import BY_NAME
from graphc.errors import GraphcError
from graphc.graph import Graph, Node, Value, constant, make_node
from graphc.passes.log import Log, LogEntry
from graphc.passes.means import MEANS, summing
from graphc.passes.rewrite import Sweep, remove_dead

FLOAT32, BFLOAT16 = np.dtype(np.float32), BY_NAME["bfloat16"].numpy
MOVES = frozenset(
    [
        "Concat",
        "MaxPool",
        "Reshape",
        "Flatten",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "DepthToSpace",
        "SpaceToDepth",
        "ChannelShuffle",
    ]
)


@dataclass(frozen=True)
class Pairs:
    """What a Conv, or a mean, becomes: ConvPairs by these weights, times `scale` (1 for a Conv), plus the bias."""

    weights: Value
    attrs: dict[str, Any]
    scale: float = 1.0
    bias: Value | None = None


@dataclass(frozen=True)
class Bfloat16Convolutions:
    """compiles: has the backend a kernel for a ConvPairs, or for what moves bfloat16? wanted: is a Conv to be one?"""

    compiles: Callable[[Node], bool]
    wanted: Callable[[Node], bool] = lambda node: True
    name: str = "bfloat16_convolutions"

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        moves = {node for node in graph.nodes if self._moves(node)}
        pairs = self._chosen(graph, moves)
        if not pairs:
            return graph
        turn = _Turn(graph, pairs, moves, _rounded(graph, pairs, moves))
        for node in graph.nodes:
            turn.take(node)
            if log is not None and node in pairs:
                log.add(LogEntry(self.name, "in bfloat16", node.op.name, node.name))
        return remove_dead(turn.finish())

    def _chosen(self, graph: Graph, moves: Set[Node]) -> dict[Node, Pairs]:
        """Convolutions, and means of what they lead to."""
        found: dict[Node, Pairs] = {}
        behind: set[Value] = set()  # convolutions in bfloat16, through what keeps their results in place
        for node in graph.nodes:
            made = None
            if node.op.name == "Conv":
                made = self._of_conv(node)
            elif node.op.name in MEANS and node.inputs[0] in behind:
                made = self._of_mean(node)
            if made is not None:
                found[node] = made
            if made is not None or ((node.op.elementwise or node in moves) and not behind.isdisjoint(node.operands)):
                behind.update(node.outputs)
        return found

    def _of_conv(self, node: Node) -> Pairs | None:
        x, w = node.inputs[:2]
        if node.attrs["exact"] or not all(v.dtype == FLOAT32 for v in node.operands):
            return None
        if x is None or w is None or x.is_const or not all(v.is_const for v in node.operands[1:]):
            return None
        if not self.wanted(node):
            return None
        attrs = {k: v for k, v in node.attrs.items() if k != "exact"}
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return self._checked(node, Pairs(constant(f"{w.name}/bfloat16", w.data.astype(BFLOAT16)), attrs, bias=bias))

    def _of_mean(self, node: Node) -> Pairs | None:
        found = summing(node)
        if isinstance(found, str) or node.output.dtype != FLOAT32:
            return None
        window, attrs = found
        ones = constant(f"{node.name}/ones", np.ones((attrs["group"], 1, *window), BFLOAT16))
        return self._checked(node, Pairs(ones, attrs, 1 / math.prod(window)))

    def _checked(self, node: Node, made: Pairs) -> Pairs | None:
        """None where there is no kernel for it."""
        return made if self._has_kernel("ConvPairs", node.inputs[:1], (made.weights,), made.attrs) else None

    def _moves(self, node: Node) -> bool:
        if node.op.name not in MOVES or len(node.outputs) > 1 or not _is_float(node.output):
            return False
        parts = _sources(node)
        return self._has_kernel(node.op.name, parts, node.inputs[len(parts) :], node.attrs)

    def _has_kernel(
        self, op: str, narrow: Sequence[Value], others: Sequence[Value | None], attrs: Mapping[str, Any]
    ) -> bool:
        """narrow: operands that are to be bfloat16."""
        operands = [Value(v.name, v.type.with_dtype(BFLOAT16)) for v in narrow]
        try:
            return self.compiles(make_node(op, (*operands, *others), dict(attrs)))
        except GraphcError:
            return False


def _is_float(v: Value) -> bool:
    return v.type is not None and v.dtype == FLOAT32


def _sources(node: Node) -> tuple[Value, ...]:
    """What it moves; its other operands say where to."""
    return node.operands if node.op.name == "Concat" else node.operands[:1]


def _rounded(graph: Graph, pairs: Mapping[Node, Pairs], moves: Set[Node]) -> set[Value]:
    """What convolutions in bfloat16 read, directly or moved, and images on the way there that go through memory."""
    found: set[Value] = set()
    leads: set[Value] = set()  # to such a convolution, through elementwise operators
    makers, order = graph.producers(), {v: i for i, n in enumerate(graph.nodes) for v in n.outputs}
    readers = Counter(v for n in graph.nodes for v in n.operands if not n.op.elementwise)
    readers.update(graph.outputs)
    for node in reversed(graph.nodes):
        if node in pairs:
            found.add(node.inputs[0])
        elif node in moves and node.output in found:
            found.update(v for v in _sources(node) if not v.is_const)
        elif node.op.elementwise and not leads.union(found).isdisjoint(node.outputs):
            images = [v for v in node.operands if v in makers and _is_float(v) and v.shape == node.output.shape]
            leads.update(images)
            last = max(images, key=order.__getitem__, default=None)
            found.update(v for v in images if v is not last or readers[v] or makers[v] in moves)
    return found


class _Turn(Sweep):
    """The sweep. narrow: the bfloat16 value that one in float32 stands for."""

    def __init__(self, graph: Graph, pairs: Mapping[Node, Pairs], moves: Set[Node], rounded: set[Value]) -> None:
        super().__init__(graph)
        self.pairs, self.moves, self.rounded = pairs, moves, rounded
        self.narrow: dict[Value, Value] = {}
        for v in self.rounded.intersection(graph.inputs):  # who else reads them gets what the caller gave
            self.narrow[v] = self.add("Cast", v, to=BFLOAT16)

    def take(self, node: Node) -> None:
        self.prefix, self.source = f"{node.name or node.outputs[0].name}/", node.source
        if node in self.pairs:
            self.stands_for(node.output, self._convolved(node, self.pairs[node]))
        elif node in self.moves and node.output in self.rounded:
            parts = [self._narrow(v) for v in _sources(node)]
            others = map(self, node.inputs[len(parts) :])
            moved = self.add(node.op, *parts, *others, name=f"{node.name}/bfloat16", **node.attrs)
            self._widen(node.output, moved)
            return
        else:
            self.copy(node)
        for v in node.outputs:
            self._round(v, self(v))

    def _convolved(self, node: Node, p: Pairs) -> Value:
        steps = [("ConvPairs", p.weights)]
        row = (-1, *[1] * (p.weights.type.rank - 2))
        if p.scale != 1:
            steps.append(("Mul", self.constant(p.scale, FLOAT32)))
        if p.bias is not None:
            steps.append(("Add", self.constant(p.bias.data.reshape(row))))
        y = self._narrow(node.inputs[0])
        for i, (op, operand) in enumerate(steps):
            attrs = p.attrs if op == "ConvPairs" else {}
            last = i == len(steps) - 1
            y = self.remake(node, y, operand, op=op, attrs=attrs) if last else self.add(op, y, operand, **attrs)
        return y

    def _narrow(self, v: Value) -> Value:
        """What was rounded of an old value."""
        return constant(f"{v.name}/bfloat16", v.data.astype(BFLOAT16)) if v.is_const else self.narrow[self(v)]

    def _round(self, old: Value, v: Value) -> None:
        if old in self.rounded:
            self._widen(old, self.add("Cast", v, to=BFLOAT16))

    def _widen(self, old: Value, v: Value) -> None:
        wide = self.add("Cast", v, to=FLOAT32)
        self.narrow[wide] = v
        self.stands_for(old, wide)

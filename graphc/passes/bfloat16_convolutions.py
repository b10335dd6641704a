"""Convolutions of float32 in bfloat16, and what lies between them:

    Conv(x, w) + b   becomes   ConvPairs(Cast(x), Cast(w)) + b

where the sums stay float32 up to the end of the epilogue. A value that such a convolution reads is rounded once, as it is made, and
whoever else reads it reads what was rounded; what moves elements or compares them does it in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from graphc.dtypes import BY_NAME
from graphc.errors import GraphcError
from graphc.graph import Graph, Node, Value, constant, make_node
from graphc.passes.log import Log, LogEntry
from graphc.passes.rewrite import Sweep, remove_dead

FLOAT32, BFLOAT16 = np.dtype(np.float32), BY_NAME["bfloat16"].numpy
MOVES = frozenset(
    (
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
    )
)


@dataclass(frozen=True)
class Bfloat16Convolutions:
    """compiles: has the backend a kernel for a ConvPairs? wanted: is a Conv to be one?"""

    compiles: Callable[[Node], bool]
    wanted: Callable[[Node], bool] = lambda node: True
    name: str = "bfloat16_convolutions"

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        pairs = {node: made for node in graph.nodes if (made := self._pairs(node)) is not None}
        if not pairs:
            return graph
        rounded = _rounded(graph, pairs.keys())
        sweep = Sweep(graph)
        narrow: dict[Value, Value] = {}  # by the value in float32 that stands for it
        for v in graph.inputs:
            if v in rounded:
                _round(sweep, v, v, narrow)
        for node in graph.nodes:
            sweep.prefix, sweep.source = f"{node.name or node.outputs[0].name}/", node.source
            if node in pairs:
                _convolve(sweep, node, narrow)
                if log is not None:
                    log.add(LogEntry(self.name, "in bfloat16", node.op.name, node.name))
            elif _moves(node) and node.output in rounded:
                parts = [_narrow(sweep, v, narrow) for v in _sources(node)]
                moved = sweep.add(
                    node.op, *parts, *map(sweep, node.inputs[len(parts) :]), name=f"{node.name}/bfloat16", **node.attrs
                )
                _widen(sweep, node.output, moved, narrow)
                continue
            else:
                sweep.copy(node)
            for v in node.outputs:
                if v in rounded:
                    _round(sweep, v, sweep(v), narrow)
        return remove_dead(sweep.finish())

    def _pairs(self, node: Node) -> Node | None:
        """The ConvPairs that a Conv is to become."""
        if node.op.name != "Conv" or node.attrs["exact"] or not all(v.dtype == FLOAT32 for v in node.operands):
            return None
        x, w = node.inputs[:2]
        if x is None or w is None or not w.is_const or x.is_const or not self.wanted(node):
            return None
        if len(node.operands) > 2 and not node.inputs[2].is_const:
            return None
        narrow = Value(x.name, x.type.with_dtype(BFLOAT16)), constant(w.name, w.data.astype(BFLOAT16))
        try:
            made = make_node("ConvPairs", narrow, _attrs(node), name=node.name)
        except GraphcError:
            return None
        return made if self.compiles(made) else None


def _attrs(node: Node) -> dict:
    return {k: v for k, v in node.attrs.items() if k != "exact"}


def _moves(node: Node) -> bool:
    return (
        node.op.name in MOVES
        and len(node.outputs) == 1
        and node.output.type is not None
        and node.output.dtype == FLOAT32
    )


def _sources(node: Node) -> tuple[Value, ...]:
    """What it moves; its other operands say where to."""
    return node.operands if node.op.name == "Concat" else node.operands[:1]


def _rounded(graph: Graph, pairs: Collection[Node]) -> set[Value]:
    """What convolutions in bfloat16 read, directly or moved."""
    found: set[Value] = set()
    for node in reversed(graph.nodes):
        if node in pairs:
            found.add(node.inputs[0])
        elif _moves(node) and node.output in found:
            found.update(v for v in _sources(node) if not v.is_const)
    return found


def _narrow(sweep: Sweep, v: Value, narrow: Mapping[Value, Value]) -> Value:
    """What was rounded of an old value."""
    return constant(f"{v.name}/bfloat16", v.data.astype(BFLOAT16)) if v.is_const else narrow[sweep(v)]


def _convolve(sweep: Sweep, node: Node, narrow: dict[Value, Value]) -> None:
    x, w = sweep(node.inputs[0]), node.inputs[1]
    weights = constant(f"{w.name}/bfloat16", w.data.astype(BFLOAT16))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        y = sweep.remake(node, narrow[x], weights, op="ConvPairs", attrs=_attrs(node))
    else:
        y = sweep.add("ConvPairs", narrow[x], weights, **_attrs(node))
        row = sweep.constant(bias.data.reshape(-1, *[1] * (len(w.shape) - 2)))
        y = sweep.remake(node, y, row, op="Add", attrs={})
    sweep.stands_for(node.output, y)


def _round(sweep: Sweep, old: Value, v: Value, narrow: dict[Value, Value]) -> None:
    _widen(sweep, old, sweep.add("Cast", v, to=BFLOAT16), narrow)


def _widen(sweep: Sweep, old: Value, v: Value, narrow: dict[Value, Value]) -> None:
    wide = sweep.add("Cast", v, to=FLOAT32)
    narrow[wide] = v
    sweep.stands_for(old, wide)

"""Which nodes compute with integers, and which values become bytes.

- Products by constant weights (`PRODUCTS`) do. What they read become bytes, and what convolutions make.
- What joins, averages or maps values that are bytes (`BETWEEN`) does, too; what only moves or compares them (`MOVES`) leaves them
  bytes of the same scale and zero point.
- A bias, factors and an activation that end a layer belong to it (`_tail`): bytes are made behind them.
- Results of the model stay in float, and what operators in float alone make and read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from graphc.graph import Graph, Node, Value
from graphc.quantizer.scheme import Scheme

CONVOLUTIONS = ("Conv", "ConvTranspose")
MATRICES = ("Gemm", "MatMul")
PRODUCTS = CONVOLUTIONS + MATRICES
BETWEEN = (
    *("Add", "Sub", "Mul", "Concat", "AveragePool", "GlobalAveragePool"),
    *("Relu", "Clip", "Sigmoid", "HardSigmoid", "Tanh", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "HardSwish"),
    *("Softplus", "Softsign", "Mish", "Gelu", "Swish"),
)
MOVES = (
    *("MaxPool", "GlobalMaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split"),
    *("DepthToSpace", "SpaceToDepth", "Resize", "Pad"),
)
FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Placement:
    """layers: the nodes that compute with integers, in order, and the value at the end of each; bytes: the values that become such
    when all layers do, in order."""

    graph: Graph
    layers: Mapping[Node, Value]
    bytes: Collection[Value]

    def bytes_of(self, layers: Collection[Node]) -> dict[Value, Value]:
        """The values that become bytes when these layers alone do, and the value whose scale each has."""
        wanted = {v for n in layers for v in (*values_of(n), self.layers[n])}
        found: dict[Value, Value] = {}
        makers = self.graph.producers()
        for v in self.bytes:
            made = makers.get(v)
            moved = made is not None and made.op.name in MOVES and made.inputs[0] in found
            if moved or v in wanted:
                found[v] = found[made.inputs[0]] if moved and made is not None else v
        return found


def placed(graph: Graph, scheme: Scheme) -> Placement:
    """Where a graph is quantised when nothing is kept in float."""
    if scheme.in_blocks:
        return Placement(graph, {n: n.output for n in graph.nodes if _has_blocks(n)}, ())
    readers, results = graph.consumers(), set(graph.outputs)
    layers: dict[Node, Value] = {}
    found = {n.inputs[0] for n in graph.nodes if is_product(n)}
    for node in graph.nodes:
        between = node.op.name in BETWEEN and _in_float32(node) and _all_in(values_of(node), found)
        if is_product(node) or between:
            end = layers[node] = _tail(node, readers, results)
            if end not in results and node.op.name not in MATRICES:
                found.add(end)
        elif node.op.name in MOVES and node.inputs[0] in found and _moves(node):
            found.update(v for v in node.outputs if v not in results and v.type is not None and v in readers)
    ordered = [v for v in _in_order(graph) if v in found]
    return Placement(graph, layers, tuple(ordered))


def is_product(node: Node) -> bool:
    """Of float32 by constant weights, in a form that has an equivalent in integers?"""
    if node.op.name not in PRODUCTS or not _in_float32(node):
        return False
    x, w, *rest = node.inputs
    if x is None or w is None or x.is_const or not w.is_const or not w.data.size:
        return False
    if node.op.name == "MatMul":
        return w.data.ndim == 2
    plain = node.op.name != "Gemm" or not node.attrs["transA"] and node.attrs["alpha"] == node.attrs["beta"] == 1
    return plain and all(b is None or b.is_const for b in rest)


def values_of(node: Node) -> tuple[Value, ...]:
    """The operands of a layer that become bytes: not its weights, nor constants of more than one element, but for parts of a
    concatenation."""
    if node.op.name in ("Add", "Sub", "Mul", "Concat"):
        return tuple(v for v in node.operands if not v.is_const or v.data.size == 1 or node.op.name == "Concat")
    return node.operands[:1]


def weight_axis(node: Node) -> int:
    """The axis of the output channels in a product's weights."""
    if node.op.name == "Conv":
        return 0
    return 0 if node.op.name == "Gemm" and node.attrs["transB"] else 1


def _has_blocks(node: Node) -> bool:
    return node.op.name in MATRICES and is_product(node)


def _in_float32(node: Node) -> bool:
    return all(v.type is not None and v.dtype == FLOAT32 for v in (*node.operands[:1], *node.outputs))


def _all_in(values: Collection[Value], found: Collection[Value]) -> bool:
    variable = [v for v in values if not v.is_const]
    return bool(variable) and all(v in found for v in variable)


def _moves(node: Node) -> bool:
    """Are all elements of its result some of its operand, or 0?"""
    if node.op.name == "MaxPool":
        return len(node.outputs) == 1
    if node.op.name == "Resize":
        return node.attrs["mode"] == "nearest"
    if node.op.name == "Pad":
        filled = node.inputs[2] if len(node.inputs) > 2 else None
        return node.attrs["mode"] != "constant" or filled is None or filled.is_const and not filled.data.any()
    return True


def _tail(node: Node, readers: Mapping[Value, list[Node]], results: Collection[Value]) -> Value:
    """The value behind what belongs to a layer: shifts and factors that are constant, a Relu or Clip, each the only reader of what it
    reads."""
    end = node.output
    while (after := _ending(end, readers, results)) is not None:
        end = after.output
    return end


def _ending(end: Value, readers: Mapping[Value, list[Node]], results: Collection[Value]) -> Node | None:
    if end in results or len(readers.get(end, ())) != 1:
        return None
    after = readers[end][0]
    others = [v for v in after.operands if v is not end]
    if len(others) + 1 != len(after.operands) or not all(v.is_const for v in others) or not _in_float32(after):
        return None
    shifted = after.op.name in ("Add", "Sub", "Mul")
    return after if shifted or after.op.name in ("Relu", "Clip") and after.inputs[0] is end else None


def _in_order(graph: Graph) -> list[Value]:
    """Inputs, constants and results of nodes, each behind what it is made of."""
    return list(dict.fromkeys([*graph.inputs, *(v for n in graph.nodes for v in (*n.operands, *n.outputs))]))

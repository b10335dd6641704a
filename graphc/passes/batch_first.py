"""Recurrent layers whose sequences lie one behind the other in memory: no copies from and to the order of steps.

Exporters put a Transpose before and behind layers that an author wrote batch first. Their ONNX attribute `layout` says the
same, and a kernel that reads and writes by strides needs no copy.
"""

from __future__ import annotations

from graphc.graph import Node, Value
from graphc.ops.recurrent import cell
from graphc.passes.identities import permutation
from graphc.passes.merge_reshapes import RESHAPES
from graphc.passes.rewrite import Rewrite, Skip, Sweep
from graphc.types import number

RECURRENT = ("RNN", "GRU", "LSTM")
SWAP = [1, 0, 2]
STEPS_FIRST = [1, 2, 0, 3]  # Y of layout 1, [batch, seq, directions, hidden], permuted to that of layout 0

batch_first = Rewrite("batch_first")


@batch_first.on("Transpose")
def of_a_recurrent_layer(node: Node, sweep: Sweep) -> Value | Skip | None:
    """Transpose∘(Reshape)∘layer -> (Reshape)∘layer with layout 1, whose operand is transposed instead."""
    if permutation(node) != SWAP:
        return None
    layer = _layer_behind(node.inputs[0], sweep)
    if layer is None:
        return None
    c = cell(layer.call)
    if not sweep.producer(layer.inputs[0], "Transpose", *RESHAPES) and number(c.inputs) > len(c.reverse) * number(
        c.hidden
    ):
        return Skip("its operand is larger than its result")
    return _swapped(node.inputs[0], sweep)


def _swapped(v: Value, sweep: Sweep) -> Value:
    """v with batch and steps, its first two axes, exchanged."""
    before = sweep.producer(v, "Transpose")
    if before is not None and permutation(before) == SWAP:
        return before.inputs[0]
    layer = _layer_behind(v, sweep)
    if layer is None:
        return sweep.add("Transpose", v, perm=SWAP)
    x, *constants = layer.inputs
    states = range(5, min(7, len(layer.inputs)))
    operands = [_swapped(x, sweep), *constants]
    for i in states:
        if operands[i] is not None:
            operands[i] = sweep.add("Transpose", operands[i], perm=SWAP)
    y = sweep.add(layer.op, *operands, **{**layer.attrs, "layout": 1})
    shape = sweep.constant([v.shape[1], v.shape[0], *v.shape[2:]], int)
    return sweep.add("Reshape", y, shape, allowzero=True)


def _layer_behind(v: Value, sweep: Sweep) -> Node | None:
    """The layer with layout 0 whose Y is v [seq, batch, features], when v with its first two axes exchanged has the order of
    elements that Y has with layout 1; and nothing else reads the layer."""
    y, perm = v, [0, 1, 2, 3]
    chain = [v]
    node = sweep.producer(y, *RESHAPES)
    if node is not None:
        y = node.inputs[0]
        chain.append(y)
        inner = sweep.producer(y, "Transpose")
        if inner is not None and len(inner.output.shape) == 4:
            y, perm = inner.inputs[0], permutation(inner)
            chain.append(y)
    layer = sweep.producer(y, *RECURRENT)
    if layer is None or layer.outputs[0] is not y or layer.attrs["layout"] == 1 or len(v.shape) != 3:
        return None
    if not all(map(sweep.sole, chain)) or any(map(sweep.is_read, layer.outputs[1:])):
        return None
    if not all(t.type.is_static for t in (v, y)):
        return None
    seq, directions, batch, hidden = y.shape
    moved = [STEPS_FIRST[p] for p in perm]
    return layer if in_order((batch, seq, directions, hidden), moved, v.shape, SWAP) else None


def in_order(shape: tuple[int, ...], first: list[int], middle: tuple[int, ...], last: list[int]) -> bool:
    """Does an array of `shape`, permuted by `first`, reshaped to `middle`, permuted by `last`, keep the order of its elements?"""
    if 0 in shape:
        return True
    strides: list[int] = []
    step = 1
    for d in reversed(shape):
        strides.insert(0, step)
        step *= d
    runs: list[tuple[int, int]] = []  # elements that follow each other, and their distance
    for p in first:
        if shape[p] != 1:
            n, s = runs.pop() if runs and runs[-1][1] == shape[p] * strides[p] else (1, 0)
            runs.append((n * shape[p], strides[p]))
    out: list[tuple[int, int]] = []
    for d in middle:
        n, s = runs.pop(0) if d != 1 else (1, 0)
        if n % d:
            return False
        out.append((d, n // d * s))
        if n > d:
            runs.insert(0, (n // d, s))
    step = 1
    for size, stride in reversed([out[p] for p in last]):
        if size != 1 and stride != step:
            return False
        step *= size
    return True

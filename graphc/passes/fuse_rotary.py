"""Rotary position embedding as exporters write it, x · cos + (-second half of x, first half) · sin, and ONNX's operator, as
FusedRotary."""

from __future__ import annotations

import numpy as np

from graphc.graph import Node, Value
from graphc.ops.attention import emit_rows
from graphc.passes.fuse_attention import BY_SEQUENCE, columns_of
from graphc.passes.identities import permutation
from graphc.passes.rewrite import Rewrite, Skip, Sweep, same_type

fuse_rotary = Rewrite("fuse_rotary", makes="FusedRotary")


@fuse_rotary.on("Add")
def written_out(node: Node, sweep: Sweep) -> Value | Skip | None:
    products = [sweep.producer(v, "Mul") for v in node.inputs]
    for plain, turned in (products, products[::-1]):
        if plain is None or turned is None:
            continue
        for x, cos in (plain.inputs, plain.inputs[::-1]):
            for quarter, sin in (turned.inputs, turned.inputs[::-1]):
                if _is_quarter_turn(quarter, x, sweep):
                    return _fused(node, x, cos, sin, sweep)
    return None


def _is_quarter_turn(v: Value, x: Value, sweep: Sweep) -> bool:
    """Is v the second half of x's last axis, negated, before the first?"""
    joined = sweep.producer(v, "Concat")
    if joined is None or len(joined.operands) != 2 or joined.attrs["axis"] % len(v.shape) != len(v.shape) - 1:
        return False
    negated = sweep.producer(joined.inputs[0], "Neg")
    parts = None if negated is None else [columns_of(p, sweep) for p in (negated.inputs[0], joined.inputs[1])]
    if parts is None or None in parts or not same_type(v, x):
        return False
    return [p for p in parts if p] == [(x, x.shape[-1] // 2), (x, 0)]


def _fused(node: Node, x: Value, cos: Value, sin: Value, sweep: Sweep) -> Value | Skip:
    if x.dtype != np.float32 or not x.type.is_static or len(x.shape) != 4 or not same_type(x, node.output):
        return Skip(f"{x.type} is not float32 with four axes of known size, or is broadcast")
    if any(not t.type.is_static or not t.shape or t.shape[-1] != x.shape[-1] for t in (cos, sin)):
        return Skip("its tables have no element for each of a head")
    tables = [sweep.reshaped(t, (*[1] * (4 - len(t.shape)), *t.shape)) for t in (cos, sin)]
    return _turned(node, x, tables, sweep, half_tables=False)


def _turned(node: Node, x: Value, tables: list[Value], sweep: Sweep, half_tables: bool) -> Value:
    """With the transposition that brought the heads before the sequence."""
    swapped = sweep.producer(x, "Transpose")
    transposed = swapped is not None and permutation(swapped) == BY_SEQUENCE
    source = swapped.inputs[0] if swapped is not None and transposed else x
    attrs = {"half_tables": half_tables, "transposed": transposed}
    return sweep.remake(node, source, *tables, op="FusedRotary", attrs=attrs)


@fuse_rotary.on("RotaryEmbedding")
def operator(node: Node, sweep: Sweep) -> Value | Skip | None:
    call, x = node.call, node.inputs[0]
    if call.attrs.interleaved:
        return Skip("it rotates neighbours")
    if any(v.dtype != np.float32 for v in node.inputs[:3]) or not all(v.type.is_static for v in node.operands):
        return Skip("it is not in float32, or has dims that are not known")
    tables = list(node.inputs[1:3])
    if call.has(3):
        tables = emit_rows(sweep, tables, node.inputs[3])
    axis = sweep.constant([1 if len(x.shape) == 4 else 2], np.int64)
    tables = [sweep.add("Unsqueeze", t, axis) for t in tables]
    if len(x.shape) == 4:
        return _turned(node, x, tables, sweep, half_tables=True)
    batch, length, columns = x.shape
    heads = call.attrs.num_heads
    apart = sweep.reshaped(x, (batch, length, heads, columns // heads))
    return sweep.reshaped(sweep.add("FusedRotary", apart, *tables, half_tables=True), x.shape)

"""Quantized signed bytes as unsigned ones, whose zero point lies 128 higher: kernels multiply unsigned by signed bytes, and the first
operand need not be moved each time that it is read.

    QuantizeLinear(x, scale, zero) = BitCast(BitwiseXor(QuantizeLinear(x, scale, zero + 128), 128))

The two operators on the right, which no reader of the floats needs, go with the DequantizeLinear behind them. For backends that have
convolutions of bytes.
"""

from __future__ import annotations

import numpy as np

from graphc.graph import Node, Value
from graphc.passes.rewrite import Rewrite, Sweep, all_equal

unsigned_bytes = Rewrite("unsigned_bytes", makes="ConvBytes")

SHIFT = 128
INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)


@unsigned_bytes.on("QuantizeLinear")
def quantized(node: Node, sweep: Sweep) -> Value | None:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if node.output.type is None or node.output.dtype != INT8 or not _is_known(zero, node):
        return None
    attrs = {**node.attrs, "output_dtype": None}
    codes = sweep.add("QuantizeLinear", *node.inputs[:2], _moved(zero, node.inputs[1], sweep), **attrs)
    return sweep.remake(
        node, sweep.add("BitwiseXor", codes, sweep.constant(SHIFT, UINT8)), op="BitCast", attrs={"to": INT8}
    )


@unsigned_bytes.on("DequantizeLinear")
def dequantized(node: Node, sweep: Sweep) -> Value | None:
    cast = sweep.producer(node.inputs[0], "BitCast")
    moved = None if cast is None else sweep.producer(cast.inputs[0], "BitwiseXor")
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if moved is None or moved.output.dtype != UINT8 or not all_equal(moved.inputs[1], SHIFT):
        return None
    if node.inputs[0].dtype != INT8 or not _is_known(zero, node):
        return None
    return sweep.remake(node, moved.inputs[0], node.inputs[1], _moved(zero, node.inputs[1], sweep))


def _is_known(zero: Value | None, node: Node) -> bool:
    return not node.attrs["block_size"] and (node.inputs[1] if zero is None else zero).is_const


def _moved(zero: Value | None, scale: Value, sweep: Sweep) -> Value:
    """The zero point of unsigned bytes; without one it has the scale's shape."""
    data = np.zeros(scale.shape, np.int16) if zero is None else zero.data.astype(np.int16)
    return sweep.constant((data + SHIFT).astype(UINT8))

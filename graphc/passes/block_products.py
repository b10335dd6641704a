"""Products by a constant matrix that is dequantized block by block keep it in integers, as those of MatMulNBits do.

It runs before constants are folded, which would make floats of the matrix.
"""

from __future__ import annotations

import numpy as np

from graphc.dtypes import int_range
from graphc.graph import Node, Value
from graphc.ops.block_product import emit_block_product, fits
from graphc.passes.rewrite import Rewrite, Skip, Sweep

block_products = Rewrite("block_products")

BITS = {"int4": 4, "uint4": 4, "int8": 8, "uint8": 8}


@block_products.on("MatMul", "Gemm")
def of_blocks(node: Node, sweep: Sweep) -> Value | Skip | None:
    made = sweep.producer(node.inputs[1], "DequantizeLinear")
    if made is None or not made.attrs["block_size"] or not all(v.is_const for v in made.operands):
        return None
    x, values, scale = node.inputs[0], *made.operands[:2]
    if x.type is None or not x.dtype == made.output.dtype == scale.dtype == np.float32:
        return Skip("it is not in float32")
    if len(values.shape) != 2 or values.dtype.name not in BITS:
        return Skip("its weights are no matrix of 4 or 8 bits")
    gemm = node.op.name == "Gemm"
    if gemm and (node.attrs["transA"] or node.attrs["alpha"] != 1 or node.attrs["beta"] != 1):
        return Skip("it turns its first operand, or has factors")
    sums = 1 if gemm and node.attrs["transB"] else 0  # the axis along which products are summed
    bits, axis, size = BITS[values.dtype.name], made.attrs["axis"] % 2, made.attrs["block_size"]
    k = values.shape[sums]
    if axis != sums or not fits(k, bits, size):
        return Skip("its blocks do not lie along the sums, or end within a word")
    y = emit_block_product(sweep, x, *_numbers(made, sums), bits, size)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return y if bias is None else sweep.remake(node, y, bias, op="Add")


def _numbers(made: Node, sums: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [N, K] that begin at 0, scales and zero points [N, blocks]."""
    values, scale, *zeros = (v.data for v in made.operands)
    least = int_range(values.dtype)[0]
    zero = zeros[0].astype(np.int32) if zeros else np.zeros(scale.shape, np.int32)
    codes = values.astype(np.int32) - least
    if sums == 0:
        codes, scale, zero = codes.T, scale.T, zero.T
    return codes, scale, (zero - least).astype(np.float32)

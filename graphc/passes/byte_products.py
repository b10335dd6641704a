"""Products of dequantized bytes become products of the bytes, scaled afterwards:

    MatMul(a_scale (a - a_zero), w_scale (w - w_zero)) = a_scale w_scale MatMulInteger(a, w, a_zero, w_zero),

where w is constant. The sums are then exact. It runs before constants are folded, which would make floats of w.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphc.graph import Node, Value
from graphc.passes.rewrite import Rewrite, Skip, Sweep

BYTES = ("int8", "uint8")
MOST_ROWS = (2**31 - 1) // 255**2  # of w: what one result sums stays in int32

byte_products = Rewrite("byte_products")


class Codes(NamedTuple):
    """The operands of a DequantizeLinear, and the axis that scales and zero points go along where they are vectors."""

    values: Value
    dtype: np.dtype
    scale: Value
    zero: Value | None
    axis: int


@byte_products.on("MatMul", "Gemm")
def of_dequantized(node: Node, sweep: Sweep) -> Value | Skip | None:
    a, w = (codes_of(v, sweep) for v in node.inputs[:2])
    if a is None or w is None or not w.values.is_const:
        return None
    transposed = _transposed(node)
    if isinstance(transposed, Skip):
        return transposed
    reason = _refused(node, a, w, columns=0 if transposed else 1)
    if reason:
        return Skip(reason)
    weights = sweep.add("Transpose", w.values, perm=[1, 0]) if transposed else w.values
    zeros = () if a.zero is None and w.zero is None else (_zero(a, sweep), _zero(w, sweep))
    total = sweep.add("Cast", sweep.add("MatMulInteger", a.values, weights, *zeros), to=np.float32)
    scale = sweep.add("Mul", a.scale, w.scale)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return sweep.remake(node, total, scale, op="Mul")
    return sweep.remake(node, sweep.add("Mul", total, scale), bias, op="Add")


def codes_of(v: Value | None, sweep: Sweep) -> Codes | None:
    made = sweep.producer(v, "DequantizeLinear")
    if made is None or made.attrs["block_size"] or made.attrs["output_dtype"] not in (None, np.float32):
        return None
    (x, scale), zero = made.operands[:2], made.inputs[2] if len(made.inputs) > 2 else None
    known = next(
        (v for v in (x, zero) if v is not None and v.type is not None), None
    )  # x may have sizes of no known rank
    if known is None or known.dtype.name not in BYTES:
        return None
    return Codes(x, known.dtype, scale, zero, made.attrs["axis"])


def _transposed(node: Node) -> bool | Skip:
    """Is the second operand of a product turned?"""
    if node.op.name == "MatMul":
        return False
    if node.attrs["transA"] or node.attrs["alpha"] != 1 or node.attrs["beta"] != 1:
        return Skip("it turns its first operand, or has factors")
    return bool(node.attrs["transB"])


def _refused(node: Node, a: Codes, w: Codes, columns: int) -> str:
    """Why it stays a product of floats, or ''."""
    scales = [v for codes in (a, w) for v in (codes.scale, codes.zero) if v is not None]
    if any(v.type is None for v in scales) or not a.scale.dtype == w.scale.dtype == np.float32:
        return "it is not in float32"
    if len(w.values.shape) != 2:
        return "its second operand is no matrix"
    if not is_single(a.scale) or not (is_single(w.scale) or w.axis % 2 == columns):
        return "its scales are not those of a whole operand or of columns"
    rows = w.values.shape[1 - columns]
    return "" if isinstance(rows, int) and rows <= MOST_ROWS else "its sums may leave int32"


def is_single(v: Value) -> bool:
    return v.shape in ((), (1,))


def _zero(codes: Codes, sweep: Sweep) -> Value:
    return sweep.constant(0, codes.dtype) if codes.zero is None else codes.zero

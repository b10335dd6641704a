"""How a matrix product ends: its bias, its epilogue, and the operands that this can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from graphc import expr
from graphc.backends.cpu.conv.conv_row_micro import operand_indices
from graphc.backends.cpu.conv.window import Epilogue, epilogue_of
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.product.matrices import Product
from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.expr import Expr
from graphc.graph import Value
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref


def split_epilogue(group: Group, n: int) -> tuple[np.ndarray | None, Epilogue, tuple[Value, ...]]:
    """The bias, n numbers, epilogue and its operands.

    Gemm's alpha becomes part of the epilogue, its constant C the bias, and so does the constant row that a MatMul's epilogue
    begins by adding.

    C is a constant number or row here: passes/canonicalize makes everything else a sum of its own.
    """
    node, tree, operands = group.anchor, group.expression, group.operands
    bias: np.ndarray | None = None
    if node.op.name == "MatMul":
        tree, operands, bias = _without_bias(tree, operands, n)
    if node.op.name == "Gemm":
        c = node.inputs[2] if len(node.inputs) > 2 else None
        alpha, beta = node.attrs["alpha"], node.attrs["beta"]
        if c is not None:
            bias = (
                np.broadcast_to(c.data.reshape(-1), n).astype(np.float32)
                if c.data.size == 1 or beta != alpha
                else c.data
            )
            if beta != alpha:
                bias = bias * np.float32(beta / alpha)
        if alpha != 1:
            scaled = expr.arg(0, np.float32) * alpha
            others = [expr.arg(i + 1, np.float32) for i in range(len(operands))]
            tree = scaled if tree is None else expr.substitute(tree, [scaled, *others])
    epilogue = epilogue_of(Group(group.nodes, node, tree, operands))
    return bias, epilogue, operands


def _without_bias(
    tree: Expr | None, operands: tuple[Value, ...], n: int
) -> tuple[Expr | None, tuple[Value, ...], np.ndarray | None]:
    """(the rest, its operands, row) where an expression reads arg 0 only to add a constant row of n numbers to it."""
    acc = expr.arg(0, np.float32)
    for i, v in enumerate(operands):
        row = expr.arg(i + 1, np.float32)
        sums = acc + row, row + acc
        if tree is None or not v.is_const or v.data.size != n or v.shape[-1:] != (n,):
            continue
        rest = _replaced(tree, lambda e: acc if e in sums else None)  # noqa: B023  (called at once)
        marked = _replaced(tree, lambda e: row if e in sums else None)  # noqa: B023
        if 0 in operand_indices(marked) or i + 1 in operand_indices(rest):
            continue
        moved = [acc, *(expr.arg(k + 1 - (k > i), np.float32) for k in range(len(operands)))]
        rest = expr.substitute(rest, moved)
        return None if rest == acc else rest, operands[:i] + operands[i + 1 :], v.data
    return tree, operands, None


def _replaced(e: Expr, by: Callable[[Expr], Expr | None]) -> Expr:
    """The expression with what `by` gives in the place of its parts."""
    new = by(e)
    if new is not None:
        return new
    return replace(e, args=tuple(_replaced(a, by) for a in e.args)) if e.args else e


def operand_record(lo: CpuLowering, v: Value, out: Value, p: Product) -> dict[str, Any]:
    """Its record in the block.

    An operand of the result's shape lies in memory as the result does, whatever has become of the batch dims. Every other
    one is a row (`accepts_epilogue_operand`), the same for each row of the result.
    """
    if _aligned(v, out) == out.shape:
        return {"ref": lo.read(v).ref, "row": p.y_row, "vector": lo.target.vector, "batch": p.y_batch}
    row = Ref(channel_vector(lo, v.data, p.n, lo.target.vl)) if v.is_const else lo.read(v).ref
    return {"ref": row, "row": 0, "vector": lo.target.vector, "batch": (0,) * BATCH_DIMS}


def accepts_epilogue_operand(v: Value, out: Value) -> str | None:
    """Which operands a matrix product's epilogue can read: the whole, or one number per column."""
    if v.type.layout is not None:
        return "it is blocked"
    shape = _aligned(v, out)
    if shape == out.shape or (shape[-1] == out.shape[-1] and all(d == 1 for d in shape[:-1])):
        return None
    return f"shape {v.shape} is neither the result's nor one number per column"


def _aligned(v: Value, out: Value) -> tuple[int, ...]:
    """The shape of `v` with a dim for each of the result's, as broadcasting aligns them."""
    return (1,) * (out.type.rank - v.type.rank) + v.shape

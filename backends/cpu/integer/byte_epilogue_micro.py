"""How a convolution of bytes ends: sums in int32, and what an expression makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.integer.byte_conv_block import BYTE_TILE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.tail_micro import load, store
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import Emit, i64
from graphc.dtypes import BY_NAME
from graphc.expr import Expr

INT32 = np.dtype(np.int32)
OPERANDS, OPERAND_SIZE = BYTE_TILE.size, BYTE_TILE.record_size
REF, PIXEL, VECTOR = BYTE_TILE.in_record("ref pixel vector")


class Ending:
    """The expression of arg 0 = the sums and the epilogue's operands, and what it is stored as.

    operands: dtype and kind of each, 's' of one number for all, else a vector ('c' the same for each pixel). mask: the lanes of the
    last of nv vectors that exist, None for all.
    """

    def __init__(
        self,
        q: Emit,
        target: Target,
        block: ir.Value,
        epilogue: Expr | None,
        operands: Sequence[tuple[str, str]],
        nv: int,
        mask: ir.Value | None,
    ) -> None:
        self.q, self.vl, self.epilogue, self.nv, self.mask = q, target.vl, epilogue, nv, mask
        self.dtype = INT32 if epilogue is None else epilogue.dtype
        self.operands = [(BY_NAME[dtype].numpy, kind) for dtype, kind in operands]
        self.records = [
            [q.slot(block, OPERANDS + OPERAND_SIZE * e + word) for word in (REF, PIXEL, VECTOR)]
            for e in range(len(operands))
        ]

    def write(self, sums: ir.Value, to: ir.Value, pixel: ir.Value, j: int) -> None:
        """to: where the vector j of a pixel goes."""
        q = self.q
        mask = self.mask if j == self.nv - 1 else None
        value = sums
        if self.epilogue is not None:

            def operand(i: int) -> ir.Value:
                return sums if i == 0 else self._operand(i - 1, pixel, j, mask)

            value = expr_code.emit_to_store(q, self.epilogue, operand, self.vl)
        value = q.narrow(value, self.dtype, self.vl)
        if mask is None:
            q.store_raw(value, to)
        else:
            store(q, value, to, self.dtype, self.vl, mask)

    def _operand(self, e: int, pixel: ir.Value, j: int, mask: ir.Value | None) -> ir.Value:
        q, b = self.q, self.q.b
        (dtype, kind), (ref, step, vector) = self.operands[e], self.records[e]
        if kind == "s":
            return q.splat(q.load(q.pointer(ref), dtype, 1), self.vl)
        at = b.add(ref, b.mul(vector, i64(j)))
        if kind == "v":
            at = b.add(at, b.mul(pixel, step))
        if mask is None:
            return q.load(q.pointer(at), dtype, self.vl)
        return q.widen(load(q, q.pointer(at), dtype, self.vl, mask), dtype, self.vl)

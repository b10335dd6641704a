"""Rows that a convolution reads next, computed while it multiplies those before: an expression of rows and channel vectors.

The multiply-adds of a tile leave loads, stores and a few additions per cycle unused.
"""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.conv.conv_row_block import OPERAND
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, Emit, i64
from graphc.dtypes import FLOAT32
from graphc.expr import Expr


class Prologue:
    """Makes x[block][pixel] = expression for the tile after the one at pixel `now`.

    kinds: of each operand 'v', a vector per pixel, or 'c', one for all pixels of a channel block. slots: of the operands.
    """

    def __init__(
        self, q: Emit, lanes: int, rows: int, expression: Expr, kinds: str, block: ir.Value, slots: int
    ) -> None:
        self.q, self.lanes, self.rows, self.expression, self.kinds = q, lanes, rows, expression, kinds
        self.addresses = [q.pointer(q.slot(block, slots + OPERAND * i)) for i in range(len(kinds))]
        self.strides = [q.slot(block, slots + OPERAND * i + 1) for i in range(len(kinds))]
        self.row_bytes = lanes * FLOAT32.item

    def at(self, x: ir.Value, now: ir.Value, last: ir.Value) -> None:
        """The tile at pixel `now` is multiplied; the last one begins at pixel `last`."""
        q, b = self.q, self.q.b
        later = b.add(now, i64(self.rows))
        then = b.select(b.icmp_signed("<", later, last), later, last)
        skip = b.mul(then, i64(self.row_bytes))
        self.x = q.offset(x, skip)
        self.now = [q.offset(p, skip) if k == "v" else p for p, k in zip(self.addresses, self.kinds)]
        far = b.mul(b.add(later, i64(self.rows)), i64(self.row_bytes))
        self.far = q.offset(self.addresses[self.kinds.index("v")], far)

    def ahead(self, c: ir.Value) -> ir.Value:
        """What to fetch in the meantime: rows of channel block c that are computed with the next tile."""
        return self.q.offset(self.far, self.q.b.mul(c, self.strides[self.kinds.index("v")]))

    def compute(self, c: ir.Value, x_stride: ir.Value) -> None:
        """The next tile's rows of channel block c."""
        q, b = self.q, self.q.b
        to = q.offset(self.x, b.mul(c, x_stride))
        sources = [q.offset(p, b.mul(c, s)) for p, s in zip(self.now, self.strides)]
        fixed = {i: q.load_raw(sources[i], F32, self.lanes) for i, k in enumerate(self.kinds) if k == "c"}
        for m in range(self.rows):
            skip = m * self.row_bytes

            def operand(i: int, skip: int = skip) -> ir.Value:
                return fixed[i] if i in fixed else q.load_raw(q.offset(sources[i], skip), F32, self.lanes)

            q.store_raw(expr_code.emit(q, self.expression, operand, self.lanes), q.offset(to, skip))

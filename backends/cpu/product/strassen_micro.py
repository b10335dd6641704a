"""The sums of a matrix' quarters that a product by Strassen's algorithm multiplies."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.strassen_block import StrassenRows
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I64, define, i64

FACTORS = 7  # pairs of factors, in the order of product/strassen_driver.py
QUARTERS = 0, 1, 4  # which left factors are quarters of the matrix, the others are sums
SUMS = 4  # P1, U2, U3, P5


@micro(StrassenRows)
def strassen_rows(module: ir.Module, symbol: str, target: Target, copies: bool) -> None:
    """void(steps, rows, top, bottom, half, step, row, to, pitch, operand): rows of the left factors, float32.

    top, bottom: the first of `rows` rows in the upper and in the lower half, `row` bytes apart. A row has `steps` vectors,
    `step` bytes apart; those of the right half lie `half` bytes further. Vector i of row m of factor f goes to `to` +
    f `operand` + i `pitch` + m vectors, in the order of product/strassen_driver.py. copies: with the factors that are quarters.
    """
    fn, q = define(module, symbol, [I64] * 10)
    steps, count, top, bottom, half, step, row, to, pitch, operand = fn.args
    b, vl = q.b, target.vl
    starts = [top, b.add(top, half), bottom, b.add(bottom, half)]
    with q.loop(steps) as i, q.loop(count) as m:
        at = b.add(b.mul(i, step), b.mul(m, row))
        a11, a12, a21, a22 = (q.load_raw(q.pointer(b.add(start, at)), F32, vl) for start in starts)
        s1 = b.fadd(a21, a22)
        s2 = b.fsub(s1, a11)
        s3 = b.fsub(a11, a21)
        s4 = b.fsub(a12, s2)
        place = b.add(to, b.add(b.mul(i, pitch), b.mul(m, i64(target.vector))))
        factors = [v for f, v in enumerate((a11, a12, s2, s3, a22, s1, s4)) if copies or f not in QUARTERS]
        for f, value in enumerate(factors):
            q.store_raw(value, q.pointer(b.add(place, b.mul(operand, i64(f)))))
    b.ret_void()

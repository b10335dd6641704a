"""The sums of a matrix' quarters that a product by Strassen's algorithm multiplies."""

from __future__ import annotations

from llvmlite import ir

from backends.cpu.ir import F32, I64, define, i64
from backends.cpu.target import Target
from backends.cpu.toolchain import micro

FACTORS = 7  # pairs of factors, in the order of drivers/strassen.py
SUMS = 4  # P1, U2, U3, P5
HEAD_BYTES = 512  # of a thread's scratch, before them


@micro("strassen_rows")
def strassen_rows(module: ir.Module, symbol: str, target: Target) -> None:
    """void(steps, top, bottom, half, to, pitch, operand): a row of each of the seven left factors, float32.

    top, bottom: a row of the upper and one of the lower half, `steps` vectors of the left half, those of the right half
    `half` bytes further. Vector i of factor f goes to `to` + f `operand` + i `pitch`, in the order of drivers/strassen.py.
    """
    fn, q = define(module, symbol, [I64] * 7)
    steps, top, bottom, half, to, pitch, operand = fn.args
    b, vl = q.b, target.vl
    rows = [q.pointer(p) for p in (top, b.add(top, half), bottom, b.add(bottom, half))]
    with q.loop(steps) as i:
        a11, a12, a21, a22 = (q.load_raw(q.offset(row, b.mul(i, i64(vl * 4))), F32, vl) for row in rows)
        s1 = b.fadd(a21, a22)
        s2 = b.fsub(s1, a11)
        s3 = b.fsub(a11, a21)
        s4 = b.fsub(a12, s2)
        at = b.add(to, b.mul(i, pitch))
        for f, value in enumerate((a11, a12, s2, s3, a22, s1, s4)):
            q.store_raw(value, q.pointer(b.add(at, b.mul(operand, i64(f)))))
    b.ret_void()

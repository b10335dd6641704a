"""Pooling of one row in NCHW[c]c: MR output pixels at a time, windows clipped by the driver."""

from __future__ import annotations

from llvmlite import ir

from backends.cpu.ir import F32, I64, PTR, define, i64
from backends.cpu.target import Target
from backends.cpu.toolchain import micro


@micro("pool_row")
def pool_row(module: ir.Module, symbol: str, target: Target, op: str, mr: int) -> None:
    """void(block, x, y, scale bits): one window for each of mr pixels.

    Block (int64, steps in bytes): planes, rows and columns of the window, steps of plane, row, column and pixel. op 'max'
    propagates NaN; 'average' multiplies the sum by scale (a float32 in the low half).
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64])
    block, x, y, scale = fn.args
    planes, rows, columns, xs_d, xs_h, xs_w, step = (q.slot(block, i) for i in range(7))
    b, vl = q.b, target.vl
    kind = ir.VectorType(F32, vl)
    x, y = q.pointer(x), q.pointer(y)
    acc = [q.variable(kind) for _ in range(mr)]
    for a in acc:
        b.store(q.const(float("-inf") if op == "max" else 0.0, F32, vl), a)
    with q.loop(planes) as d, q.loop(rows) as r:
        xr = q.offset(x, b.add(b.mul(d, xs_d), b.mul(r, xs_h)))
        with q.loop(columns) as c:
            xc = q.offset(xr, b.mul(c, xs_w))
            for p, a in enumerate(acc):
                v, old = q.load_raw(q.offset(xc, b.mul(step, i64(p))), F32, vl), b.load(a, typ=kind)
                if op == "max":  # keep old only where v <= old is certain: a NaN in v replaces it
                    v = b.select(b.fcmp_unordered("uno", old, old), old, b.select(b.fcmp_ordered("<=", v, old), old, v))
                else:
                    v = b.fadd(old, v)
                b.store(v, a)
    factor = q.splat(b.bitcast(b.trunc(scale, ir.IntType(32)), F32), vl)
    for p, a in enumerate(acc):
        v = b.load(a, typ=kind)
        q.store_raw(v if op == "max" else b.fmul(v, factor), q.offset(y, p * vl * 4))
    b.ret_void()

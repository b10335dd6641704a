"""Pooling of one row in NCHW[c]c, windows clipped by the driver."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.pool.pool_block import POOL_ROW, PoolRow, PoolRun
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I64, PTR, Emit, define, i64, register_type
from graphc.dtypes import BY_NAME

SUMS = 4  # partial sums that tell whether there is a NaN


def _combine(q: Emit, op: str, old: ir.Value, v: ir.Value) -> ir.Value:
    """The larger, or NaN if one of them is (one maximum instruction returns v where either is NaN); or the sum."""
    b = q.b
    if op != "max":
        return b.fadd(old, v)
    larger = b.select(b.fcmp_ordered(">", old, v), old, v)
    return b.select(b.fcmp_unordered("uno", old, old), old, larger)


@micro(PoolRow)
def pool_row(module: ir.Module, symbol: str, target: Target, op: str, mr: int, dtype: str) -> None:
    """void(block, x, y, scale bits): one window for each of mr pixels.

    op 'max' propagates NaN; 'average' multiplies the sum by scale (a float32 in the low half). dtype: of the elements, a vector
    of which is a channel block.
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64])
    block, x, y, scale = fn.args
    planes, rows, columns = (q.slot(block, i) for i in POOL_ROW["planes rows columns"])
    xs_d, xs_h, xs_w, step = (q.slot(block, i) for i in POOL_ROW["plane row column pixel"])
    b, element = q.b, BY_NAME[dtype]
    vl = target.lanes(element)
    kind = ir.VectorType(register_type(element.numpy), vl)
    x, y = q.pointer(x), q.pointer(y)
    acc = [q.variable(kind) for _ in range(mr)]
    of_row = (
        acc if op == "max" else [q.variable(kind) for _ in range(mr)]
    )  # sums of sums round less: windows may be whole images
    for a in acc:
        b.store(_start(q, op, vl), a)
    with q.loop(planes) as d, q.loop(rows) as r:
        xr = q.offset(x, b.add(b.mul(d, xs_d), b.mul(r, xs_h)))
        if op != "max":
            for s in of_row:
                b.store(_start(q, op, vl), s)
        with q.loop(columns) as c:
            xc = q.offset(xr, b.mul(c, xs_w))
            for p, a in enumerate(of_row):
                v = q.load(q.offset(xc, b.mul(step, i64(p))), element.numpy, vl)
                b.store(_combine(q, op, b.load(a, typ=kind), v), a)
        if op != "max":
            for a, s in zip(acc, of_row):
                b.store(b.fadd(b.load(a, typ=kind), b.load(s, typ=kind)), a)
    for p, a in enumerate(acc):
        result = _finish(q, op, b.load(a, typ=kind), scale, vl)
        q.store(result, q.offset(y, p * target.vector), element.numpy, vl)
    b.ret_void()


@micro(PoolRun)
def pool_run(
    module: ir.Module, symbol: str, target: Target, op: str, mr: int, kernel_w: int, stride: int, dtype: str
) -> None:
    """void(block, x, y, scale bits): `pixels` pixels (of the block; at least mr) whose windows have all of their columns.

    As `pool_row`, with windows of kernel_w adjacent columns, `stride` columns apart. Columns are combined first, so that every
    vector of x is read once by mr pixels; the last mr pixels overlap those before. A maximum is one instruction where no
    element is NaN, which the elements' sum tells (where it is NaN for another reason, that costs only time).
    """
    fn, q = define(module, symbol, [PTR, I64, I64, I64])
    block, x, y, scale = fn.args
    planes, rows, xs_d, xs_h, pixels = (q.slot(block, i) for i in POOL_ROW["planes rows plane row pixels"])
    b, element, vector = q.b, BY_NAME[dtype], target.vector
    vl = target.lanes(element)
    kind = ir.VectorType(register_type(element.numpy), vl)
    x, y = q.pointer(x), q.pointer(y)
    last = b.sub(pixels, i64(mr))
    count = (mr - 1) * stride + kernel_w
    with q.loop(pixels, step=mr) as t:
        first = b.select(b.icmp_signed("<", t, last), t, last)
        xt = q.offset(x, b.mul(first, i64(stride * vector)))
        yt = q.offset(y, b.mul(first, i64(vector)))

        def tile(combine: Callable, watch: list[ir.Value]) -> None:
            columns = [q.variable(kind) for _ in range(count)]
            for c in columns:
                b.store(_start(q, op, vl), c)
            with q.loop(planes) as d, q.loop(rows) as r:
                xr = q.offset(xt, b.add(b.mul(d, xs_d), b.mul(r, xs_h)))
                for i, c in enumerate(columns):
                    v = q.load(q.offset(xr, i * vector), element.numpy, vl)
                    b.store(combine(b.load(c, typ=kind), v), c)
                    if watch:
                        total = watch[i % len(watch)]
                        b.store(b.fadd(b.load(total, typ=kind), v), total)
            combined = [b.load(c, typ=kind) for c in columns]
            for p in range(mr):
                v = combined[p * stride]
                for k in range(1, kernel_w):
                    v = combine(v, combined[p * stride + k])
                q.store(_finish(q, op, v, scale, vl), q.offset(yt, p * vector), element.numpy, vl)

        if op != "max":
            tile(b.fadd, [])
        else:
            watch = [q.variable(kind) for _ in range(SUMS)]
            for total in watch:
                b.store(q.const(0.0, F32, vl), total)
            tile(lambda old, v: b.select(b.fcmp_ordered(">", old, v), old, v), watch)
            total = b.load(watch[0], typ=kind)
            for other in watch[1:]:
                total = b.fadd(total, b.load(other, typ=kind))
            odd = b.bitcast(b.fcmp_unordered("uno", total, total), ir.IntType(vl))
            with b.if_then(b.icmp_unsigned("!=", odd, ir.Constant(odd.type, 0)), likely=False):
                tile(lambda old, v: _combine(q, op, old, v), [])
    b.ret_void()


def _start(q: Emit, op: str, vl: int) -> ir.Constant:
    return q.const(float("-inf") if op == "max" else 0.0, F32, vl)


def _finish(q: Emit, op: str, v: ir.Value, scale: ir.Value, vl: int) -> ir.Value:
    if op == "max":
        return v
    return q.b.fmul(v, q.splat(q.b.bitcast(q.b.trunc(scale, ir.IntType(32)), F32), vl))

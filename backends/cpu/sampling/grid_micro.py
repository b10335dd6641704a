"""Weighted pixels."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.sampling.grid_block import POINTS, GridPoints
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import F32, I64, define, i64


@micro(GridPoints)
def grid_points(module: ir.Module, symbol: str, target: Target, taps: int) -> None:
    """void(count, offsets, weights, zero, x, y): y[i] = sum over taps k of weights[k, i] * the pixel offsets[k, i] bytes behind x;
    where that is negative, of the number at `zero`."""
    fn, q = define(module, symbol, [I64] * 6)
    count, offsets, weights, zero, x, y = fn.args
    b = q.b
    with q.loop(count) as i:
        total = ir.Constant(F32, 0.0)
        for k in range(taps):
            at = b.add(i, i64(k * POINTS))
            offset = q.load_raw(q.offset(q.pointer(offsets), b.mul(at, i64(8))), I64, 1)
            place = b.select(b.icmp_signed("<", offset, i64(0)), zero, b.add(x, offset))
            weight = q.load_raw(q.offset(q.pointer(weights), b.mul(at, i64(4))), F32, 1)
            total = q.fma(weight, q.load_raw(q.pointer(place), F32, 1), total)
        q.store_raw(total, q.offset(q.pointer(y), b.mul(i, i64(4))))
    b.ret_void()

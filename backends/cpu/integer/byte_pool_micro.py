"""The largest of some bytes, for each channel."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu.integer.byte_conv_block import BYTE_POOL, LargestBytes
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.rows_micro import each_vector
from graphc.backends.llvm.emit import I8, I64, PTR, define

X_H, X_W, CHANNELS = BYTE_POOL["x_h x_w channels"]


@micro(LargestBytes, unroll=False)
def largest_bytes(module: ir.Module, symbol: str, target: Target, signed: bool) -> None:
    """void(block of byte_pool, x, y, rows, columns): of a window of at least one pixel, X_H and X_W bytes apart."""
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64])
    block, x, y, rows, columns = fn.args
    b = q.b
    x, y = q.pointer(x), q.pointer(y)
    x_h, x_w = q.slot(block, X_H), q.slot(block, X_W)

    def step(c: ir.Value, lanes: int) -> None:
        first = q.offset(x, c)
        best = q.variable(q.vector(I8, lanes))
        b.store(q.load_raw(first, I8, lanes), best)
        with q.loop(rows) as r, q.loop(columns) as t:
            value = q.load_raw(q.offset(first, b.add(b.mul(r, x_h), b.mul(t, x_w))), I8, lanes)
            old = b.load(best, typ=value.type)
            larger = (b.icmp_signed if signed else b.icmp_unsigned)(">", value, old)
            b.store(b.select(larger, value, old), best)
        q.store_raw(b.load(best, typ=q.vector(I8, lanes)), q.offset(y, c))

    each_vector(q, q.slot(block, CHANNELS), target.vector, step)
    b.ret_void()

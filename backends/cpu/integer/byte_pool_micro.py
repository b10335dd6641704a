"""The largest of some bytes, or of some bfloat16, for each channel."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from graphc.backends.cpu.integer.byte_conv_block import BYTE_POOL, LargestBytes
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.rows_micro import each_vector
from graphc.backends.llvm.emit import I8, I16, I32, I64, PTR, Emit, define, i64
from graphc.dtypes import BY_NAME

# (pointer, lanes) -> vector; (new, old, lanes) -> the larger; (vector, pointer, lanes)
Access = tuple[Callable[..., ir.Value], Callable[..., ir.Value], Callable[..., None]]
X_H, X_W, CHANNELS = BYTE_POOL["x_h x_w channels"]


@micro(LargestBytes, unroll=False)
def largest_bytes(module: ir.Module, symbol: str, target: Target, dtype: str) -> None:
    """void(block of byte_pool, x, y, rows, columns): of a window of at least one pixel, X_H and X_W bytes apart."""
    fn, q = define(module, symbol, [PTR, I64, I64, I64, I64])
    block, x, y, rows, columns = fn.args
    b = q.b
    x, y = q.pointer(x), q.pointer(y)
    x_h, x_w = q.slot(block, X_H), q.slot(block, X_W)
    load, larger, store = _bfloat16(q) if dtype == "bfloat16" else _bytes(q, dtype == "int8")
    item = BY_NAME[dtype].item

    def step(c: ir.Value, lanes: int) -> None:
        at = b.mul(c, i64(item))
        first = q.offset(x, at)
        start = load(first, lanes)
        best = q.variable(start.type)
        b.store(start, best)
        with q.loop(rows) as r, q.loop(columns) as t:
            value = load(q.offset(first, b.add(b.mul(r, x_h), b.mul(t, x_w))), lanes)
            b.store(larger(value, b.load(best, typ=value.type), lanes), best)
        store(b.load(best, typ=start.type), q.offset(y, at), lanes)

    lanes = target.vector // item
    each_vector(q, q.slot(block, CHANNELS), lanes, step, lanes // 2, lanes // 4, lanes // 8)
    b.ret_void()


def _bytes(q: Emit, signed: bool) -> Access:
    """How bytes are read, compared and written."""
    greater = q.b.icmp_signed if signed else q.b.icmp_unsigned
    return (
        lambda at, lanes: q.load_raw(at, I8, lanes),
        lambda new, old, lanes: q.b.select(greater(">", new, old), new, old),
        lambda best, at, lanes: q.store_raw(best, at),
    )


def _bfloat16(q: Emit) -> Access:
    """The same: as float32, whose upper half they are. NaN is kept, as `pool_row` keeps it."""
    b, dtype = q.b, BY_NAME["bfloat16"].numpy

    def larger(new: ir.Value, old: ir.Value, lanes: int) -> ir.Value:
        found = b.select(b.fcmp_ordered(">", old, new), old, new)
        return b.select(b.fcmp_unordered("uno", old, old), old, found)

    def store(best: ir.Value, at: ir.Value, lanes: int) -> None:
        bits = b.lshr(b.bitcast(best, q.vector(I32, lanes)), q.const(16, I32, lanes))
        q.store_raw(b.trunc(bits, q.vector(I16, lanes)), at)

    return lambda at, lanes: q.load(at, dtype, lanes), larger, store

"""Elements that are not zero: how many, and where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.selection.masks_micro import bits_of, count_of, each_set
from graphc.backends.cpu.selection.positions_block import CountTrue, FindTrue
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import I64, Emit, define, i64, register_type


def _true(q: Emit, x: ir.Value, i: ir.Value, dtype: np.dtype, lanes: int) -> ir.Value:
    """Which of the elements from i on are not zero, as bits. NaN is not."""
    value = q.load(q.offset(q.pointer(x), q.b.mul(i, i64(dtype.itemsize))), dtype, lanes)
    if dtype == np.bool_:
        return bits_of(q, value, lanes)
    kind = register_type(dtype)
    zero = q.const(0, kind, lanes)
    compare = q.b.icmp_unsigned if isinstance(kind, ir.IntType) else q.b.fcmp_unordered
    return bits_of(q, compare("!=", value, zero), lanes)


def _each_line(q: Emit, n: ir.Value, dtype: np.dtype, body: Callable[[ir.Value, int], None]) -> None:
    """body(first element, number of elements) for a cache line at a time, then element by element."""
    lanes = CACHE_LINE // dtype.itemsize
    whole = q.b.and_(n, i64(-lanes))
    with q.loop(whole, step=lanes) as i:
        body(i, lanes)
    with q.loop(n, start=whole) as i:
        body(i, 1)


@micro(CountTrue, unroll=False)
def count_true(module: ir.Module, symbol: str, target: Target, dtype_name: str) -> None:
    """void(n, x, -, count): how many of n elements are not zero, int64."""
    fn, q = define(module, symbol, [I64] * 4)
    n, x, _, out = fn.args
    b, dtype = q.b, np.dtype(dtype_name)
    total = q.variable(I64)
    b.store(i64(0), total)

    def line(i: ir.Value, lanes: int) -> None:
        b.store(b.add(b.load(total), count_of(q, _true(q, x, i, dtype, lanes))), total)

    _each_line(q, n, dtype, line)
    q.store_raw(b.load(total), q.pointer(out))
    b.ret_void()


@micro(FindTrue, unroll=False)
def find_true(module: ir.Module, symbol: str, target: Target, dtype_name: str) -> None:
    """void(n, x, first, found): `first` + the positions of those of n elements that are not zero, int64."""
    fn, q = define(module, symbol, [I64] * 4)
    n, x, first, found = fn.args
    b, dtype = q.b, np.dtype(dtype_name)
    to = q.variable(I64)
    b.store(found, to)

    def line(i: ir.Value, lanes: int) -> None:
        bits = _true(q, x, i, dtype, lanes)
        count = count_of(q, bits)
        at, start = b.load(to), b.add(first, i)
        with each_set(q, bits, count) as (turn, lane):
            q.store_raw(b.add(start, lane), q.pointer(b.add(at, b.mul(turn, i64(8)))))
        b.store(b.add(at, b.mul(count, i64(8))), to)

    _each_line(q, n, dtype, line)
    b.ret_void()

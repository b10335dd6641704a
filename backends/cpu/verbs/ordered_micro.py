"""Kernels along an ordered axis: positions of extremes, running sums, keys to sort by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.ordered_block import ExtremeColumn, ExtremeRow, Scan, SortKeys
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.combine import combined, identity_of
from graphc.backends.llvm.emit import F32, F64, I32, I64, PTR, Emit, define, i64, register_type


def _better(q: Emit, prim: str, last: bool, dtype: np.dtype, x: ir.Value, best: ir.Value) -> ir.Value:
    """Does a later element take the place of the best so far? NaN beats everything but an earlier NaN (NumPy argmax).

    With `last` of equal elements the later one wins.
    """
    b = q.b
    sign = {"max": ">", "min": "<"}[prim] + ("=" if last else "")
    if dtype.kind in "fV":
        if last:
            return b.or_(b.fcmp_ordered(sign, x, best), b.fcmp_unordered("uno", x, x))
        return b.and_(b.fcmp_unordered(sign, x, best), b.fcmp_ordered("ord", best, best))
    return (b.icmp_signed if dtype.kind == "i" else b.icmp_unsigned)(sign, x, best)


@micro(ExtremeRow)
def extreme_row(module: ir.Module, symbol: str, target: Target, prim: str, last: bool, dtype_name: str) -> None:
    """void(1, n, table [x, -, out, -]): out = position of the largest ('max') or smallest of n contiguous elements."""
    fn, q = define(module, symbol, [I64, I64, PTR])
    _, n, table = fn.args
    b, dtype, lanes = q.b, np.dtype(dtype_name), target.vl
    kind = register_type(dtype)
    x, out = q.pointer(q.slot(table, 0)), q.pointer(q.slot(table, 2))
    best, where = q.variable(q.vector(kind, lanes)), q.variable(q.vector(I64, lanes))
    top, at = q.variable(kind), q.variable(I64)

    def element(i: ir.Value, count: int) -> ir.Value:
        return q.load(q.offset(x, b.mul(i, i64(dtype.itemsize))), dtype, count)

    def take(value: ir.Value, position: ir.Value, better: ir.Value, into: tuple) -> None:
        b.store(b.select(better, value, b.load(into[0])), into[0])
        b.store(b.select(better, position, b.load(into[1])), into[1])

    b.store(element(i64(0), 1), top)
    b.store(i64(0), at)
    whole = b.and_(n, i64(-lanes))
    with b.if_then(b.icmp_signed(">", whole, i64(0))):
        numbers = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
        b.store(element(i64(0), lanes), best)
        b.store(numbers, where)
        with q.loop(whole, start=i64(lanes), step=lanes) as i:
            value = element(i, lanes)
            position = b.add(q.splat(i, lanes), numbers)
            take(value, position, _better(q, prim, last, dtype, value, b.load(best)), (best, where))
        for lane in range(lanes):  # of equal lanes the one at the lower (with `last` the higher) position
            index = ir.Constant(I32, lane)
            value = b.extract_element(b.load(best), index)
            position = b.extract_element(b.load(where), index)
            now, here = b.load(top), b.load(at)
            ahead, behind = (_better(q, prim, last, dtype, *pair) for pair in ((value, now), (now, value)))
            # with `last` both say yes to equals, else both say no
            tie = b.and_(ahead, behind) if last else b.not_(b.or_(ahead, behind))
            further = b.icmp_signed(">" if last else "<", position, here)
            take(value, position, b.or_(b.and_(ahead, b.not_(tie)), b.and_(tie, further)), (top, at))
    with q.loop(n, start=whole) as i:
        value = element(i, 1)
        take(value, i, _better(q, prim, last, dtype, value, b.load(top)), (top, at))
    q.store_raw(b.load(at), out)
    b.ret_void()


@micro(ExtremeColumn)
def extreme_column(module: ir.Module, symbol: str, target: Target, prim: str, last: bool, dtype_name: str) -> None:
    """void(length, n, table [x, step, out, -]): positions of the extremes of n neighbouring columns."""
    fn, q = define(module, symbol, [I64, I64, PTR])
    length, n, table = fn.args
    b, dtype = q.b, np.dtype(dtype_name)
    x, step, out = q.slot(table, 0), q.slot(table, 1), q.pointer(q.slot(table, 2))

    def columns(i: ir.Value, lanes: int) -> None:
        best, where = q.variable(q.vector(register_type(dtype), lanes)), q.variable(q.vector(I64, lanes))
        column = b.mul(i, i64(dtype.itemsize))
        b.store(q.load(q.offset(q.pointer(x), column), dtype, lanes), best)
        b.store(q.const(0, I64, lanes), where)
        with q.loop(length, start=i64(1)) as r:
            value = q.load(q.offset(q.pointer(b.add(x, b.mul(r, step))), column), dtype, lanes)
            better = _better(q, prim, last, dtype, value, b.load(best))
            b.store(b.select(better, value, b.load(best)), best)
            b.store(b.select(better, q.splat(r, lanes), b.load(where)), where)
        q.store_raw(b.load(where), q.offset(out, b.mul(i, i64(8))))

    _each(q, n, target.vl, columns)
    b.ret_void()


@micro(Scan)
def scan(module: ir.Module, symbol: str, target: Target, combine: str, exclusive: bool, dtype_name: str) -> None:
    """void(length, n, table [x, step, out, step]): running combinations down n neighbouring columns.

    Narrow floats run in float32.
    """
    fn, q = define(module, symbol, [I64, I64, PTR])
    length, n, table = fn.args
    b, dtype = q.b, np.dtype(dtype_name)
    x, x_step, out, out_step = (q.slot(table, i) for i in range(4))

    def columns(i: ir.Value, lanes: int) -> None:
        kind = register_type(dtype)
        acc = q.variable(q.vector(kind, lanes))
        first = identity_of(combine, dtype)
        if combine == "add" and dtype.kind in "fV" and not exclusive:
            first = -0.0  # the first result keeps its sign
        b.store(q.const(first, kind, lanes), acc)
        column = b.mul(i, i64(dtype.itemsize))
        with q.loop(length) as r:
            before = b.load(acc)
            value = q.load(q.offset(q.pointer(b.add(x, b.mul(r, x_step))), column), dtype, lanes)
            after = combined(q, combine, dtype, before, value, lanes)
            b.store(after, acc)
            to = q.offset(q.pointer(b.add(out, b.mul(r, out_step))), column)
            q.store(before if exclusive else after, to, dtype, lanes)

    _each(q, n, target.vl, columns)
    b.ret_void()


def _each(q: Emit, n: ir.Value, lanes: int, columns: Callable[[ir.Value, int], None]) -> None:
    whole = q.b.and_(n, i64(-lanes))
    with q.loop(whole, step=lanes) as i:
        columns(i, lanes)
    with q.loop(n, start=whole) as i:
        columns(i, 1)


@micro(SortKeys)
def sort_keys(module: ir.Module, symbol: str, target: Target, largest: bool, dtype_name: str) -> None:
    """void(n, x, step, keys): int64 keys of which the largest is the first of the order wanted.

    Keys compare as the elements do: -0 equals 0, all NaN are equal and above every number.
    """
    fn, q = define(module, symbol, [I64] * 4)
    n, x, step, keys = fn.args
    b, dtype = q.b, np.dtype(dtype_name)
    with q.loop(n) as i:
        value = q.load(q.pointer(b.add(x, b.mul(i, step))), dtype, 1)
        key = _float_key(q, value) if dtype.kind in "fV" else _int_key(q, value, dtype)
        q.store_raw(key if largest else b.not_(key), q.pointer(b.add(keys, b.mul(i, i64(8)))))
    b.ret_void()


def _int_key(q: Emit, x: ir.Value, dtype: np.dtype) -> ir.Value:
    if dtype == np.uint64:
        return q.b.xor(x, i64(-(2**63)))
    return expr_code.convert(q, x, dtype, np.dtype(np.int64), 1)


def _float_key(q: Emit, x: ir.Value) -> ir.Value:
    """The bits of a positive double grow with its value; those of a negative one are flipped."""
    b = q.b
    wide = b.fpext(x, F64) if x.type == F32 else x
    zero = ir.Constant(F64, 0.0)
    wide = b.select(b.fcmp_ordered("==", wide, zero), zero, wide)
    bits = b.bitcast(wide, I64)
    ordered = b.select(b.icmp_signed("<", bits, i64(0)), b.xor(bits, i64(2**63 - 1)), bits)
    return b.select(b.fcmp_unordered("uno", wide, wide), i64(2**63 - 1), ordered)

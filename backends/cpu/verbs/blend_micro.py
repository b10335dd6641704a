"""Weighted sums of rows, or of elements of one row: one axis of an interpolation."""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.blend_block import BlendElements, BlendRows
from graphc.backends.cpu.verbs.passes_micro import arguments
from graphc.backends.cpu.verbs.tail_micro import can_mask, element, load, over_row, store
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F64, I32, I64, PTR, Emit, define, i64, register_type
from graphc.dtypes import INT32
from graphc.expr import Expr


def _weight(q: Emit, at: ir.Value, kind: ir.Type) -> ir.Value:
    """A weight; in memory all are float64."""
    value = q.load_raw(at, F64, 1)
    return value if kind == F64 else q.b.fptrunc(value, kind)


def _operand_dtype(term: Expr) -> np.dtype:
    """dtype of operand 0 of an expression."""
    return np.dtype(term.dtype) if term.prim == "arg" else _operand_dtype(term.args[0])


@micro(BlendRows)
def blend_rows(module: ir.Module, symbol: str, target: Target, term: Expr, finish: Expr) -> None:
    """void(taps, n, table [out, (row, weight) …]): out[i] = finish(sum over taps of weight * term(row[i])).

    The words of weights are float64 bits.
    """
    fn, q = define(module, symbol, [I64, I64, PTR])
    taps, n, table = fn.args
    b, source, kind = q.b, _operand_dtype(term), register_type(term.dtype)
    out = q.pointer(q.slot(table, 0))

    def block(starts: list[ir.Value], lanes: int, mask: ir.Value | None) -> None:
        accs = [q.variable(q.vector(kind, lanes)) for _ in starts]
        for a in accs:
            b.store(q.const(0, kind, lanes), a)
        with q.loop(taps) as t:
            pair = q.offset(table, b.add(b.mul(t, i64(16)), i64(8)))
            row = q.pointer(q.slot(pair, 0))
            weight = q.splat(_weight(q, q.offset(pair, 8), kind), lanes)
            for a, i in zip(accs, starts):
                x = load(q, element(q, row, i, source), source, lanes, mask)
                b.store(q.fma(weight, expr_code.emit(q, term, [x], lanes), b.load(a)), a)
        for a, i in zip(accs, starts):
            y = expr_code.emit(q, finish, [b.load(a)], lanes)
            store(q, y, element(q, out, i, finish.dtype), finish.dtype, lanes, mask)

    wide = 4
    whole = b.and_(n, i64(-target.vl * wide))
    with q.loop(whole, step=target.vl * wide) as i:
        block([b.add(i, i64(u * target.vl)) for u in range(wide)], target.vl, None)
    masked = can_mask(target, [source, finish.dtype])
    over_row(q, n, target.vl, masked, lambda i, lanes, mask: block([i], lanes, mask), whole)
    b.ret_void()


@micro(BlendElements)
def blend_elements(module: ir.Module, symbol: str, target: Target, term: Expr, finish: Expr) -> None:
    """void(taps, n, table [x, -, out, -, offsets, -, weights, -]).

    out[i] = finish(sum over t of weights[t, i] * term(x at byte offsets[t, i])); offsets are int32, weights of the dtype
    of the sum.
    """
    assert {0} == arguments(term)
    fn, q = define(module, symbol, [I64, I64, PTR])
    taps, n, table = fn.args
    b, source, kind = q.b, _operand_dtype(term), register_type(term.dtype)
    x, out, offsets, weights = (q.pointer(q.slot(table, 2 * i)) for i in range(4))

    def block(i: ir.Value, lanes: int, _: object) -> None:
        acc = q.variable(q.vector(kind, lanes))
        b.store(q.const(0, kind, lanes), acc)
        with q.loop(taps) as t:
            at = b.add(b.mul(t, n), i)
            places = q.load_raw(q.offset(offsets, b.mul(at, i64(INT32.item))), I32, lanes)
            weight = q.load(element(q, weights, at, term.dtype), term.dtype, lanes)
            value = expr_code.emit(q, term, [_collect(q, x, places, source, lanes)], lanes)
            b.store(q.fma(weight, value, b.load(acc)), acc)
        y = expr_code.emit(q, finish, [b.load(acc)], lanes)
        q.store(y, element(q, out, i, finish.dtype), finish.dtype, lanes)

    over_row(q, n, target.vl, False, block)
    b.ret_void()


def _collect(q: Emit, x: ir.Value, places: ir.Value, dtype: np.dtype, lanes: int) -> ir.Value:
    """Elements at byte offsets from x."""
    b = q.b
    if lanes == 1:
        return q.load(q.offset(x, b.sext(places, I64)), dtype, 1)
    out = ir.Constant(q.vector(register_type(dtype), lanes), ir.Undefined)
    for lane in range(lanes):
        index = ir.Constant(I32, lane)
        at = q.offset(x, b.sext(b.extract_element(places, index), I64))
        out = b.insert_element(out, q.load(at, dtype, 1), index)
    return out

"""Elementwise row kernel: out[i] = f(in_0[i], in_1[i], …) over one contiguous row."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.rows_block import MapRow
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import I64, PTR, Emit, define, i64
from graphc.dtypes import BY_NAME
from graphc.expr import Expr


@micro(MapRow)
def map_row(
    module: ir.Module, symbol: str, target: Target, expression: Expr, kinds: str, dtypes: tuple[str, ...]
) -> None:
    """void(int64 n, int64* addresses): addresses[0] is the output, then the operands.

    kinds[i] of operand i: 'v' a row of n elements, 's' one element for the whole row, 'c' one vector again and again (n is
    a multiple of its length). dtypes of operands; the output has the expression's. It may be an operand's own row.
    """
    fn, q = define(module, symbol, [I64, PTR])
    n, table = fn.args
    out = q.pointer(q.slot(table, 0))
    rows = [q.pointer(q.slot(table, 1 + i)) for i in range(len(kinds))]
    types = [BY_NAME[t].numpy for t in dtypes]
    single = {i: q.load(rows[i], types[i], 1) for i, k in enumerate(kinds) if k == "s"}
    repeated = {i: q.load(rows[i], types[i], target.vl) for i, k in enumerate(kinds) if k == "c"}

    def step(index: ir.Value, lanes: int) -> None:
        def operand(i: int) -> ir.Value:
            if i in single:
                return q.splat(single[i], lanes)
            if i in repeated and lanes == target.vl:
                return repeated[i]
            at = q.offset(rows[i], q.b.mul(index, i64(types[i].itemsize)))
            return q.load(at, types[i], lanes)

        value = expr_code.emit_to_store(q, expression, operand, lanes)
        q.store(value, q.offset(out, q.b.mul(index, i64(expression.dtype.itemsize))), expression.dtype, lanes)

    each_vector(q, n, target.vl, step)
    q.b.ret_void()


def each_vector(q: Emit, n: ir.Value, lanes: int, step: Callable[[ir.Value, int], None], *narrower: int) -> None:
    """step(i, lanes) over whole vectors of a row, then over narrower ones, then step(i, 1) over what is left. All powers of two."""
    start = i64(0)
    for width in (lanes, *narrower):
        whole = q.b.and_(n, i64(-width))
        with q.loop(whole, start=start, step=width) as i:
            step(i, width)
        start = whole
    with q.loop(n, start=start) as i:
        step(i, 1)

"""Kernels made of passes: reductions, softmax, normalisations.

A pass maps every element of a row to a number and combines the numbers into one; later passes and the outputs may use
it. `row_passes` runs along contiguous rows, `column_passes` down columns with one column per lane. What they compute is
expressions only: an operand has an index, the results of the passes follow the operands.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.verbs.passes_block import ColumnPasses, ManyRows, RowPasses
from graphc.backends.cpu.verbs.tail_micro import can_mask, element, load, over_row, store
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.combine import combined, identity_of
from graphc.backends.llvm.emit import I32, I64, PTR, Emit, define, i64, register_type
from graphc.expr import Expr
from graphc.lower.kernel import Pass

ROWS_AT_ONCE = 4  # of columns that have no neighbours: each combination waits for the one before
HEAVY = frozenset({"exp", "log", "tanh", "sigmoid", "erf", "pow", "sin", "cos"})


def horizontal(q: Emit, combine: str, dtype: np.dtype, x: ir.Value, lanes: int) -> ir.Value:
    """All lanes of a vector combined, halves first."""
    b = q.b
    while lanes > 2:
        lanes //= 2
        undef = ir.Constant(x.type, ir.Undefined)
        low, high = (
            b.shuffle_vector(x, undef, ir.Constant(ir.VectorType(I32, lanes), list(range(at, at + lanes))))
            for at in (0, lanes)
        )
        x = combined(q, combine, dtype, low, high, lanes)
    first, second = (b.extract_element(x, ir.Constant(I32, i)) for i in (0, 1))
    return combined(q, combine, dtype, first, second, 1)


class _Passes:
    """What both directions share: the table of operands, expressions over it.

    Table: an address and a byte step for each operand, then for each output.
    """

    def __init__(
        self,
        q: Emit,
        target: Target,
        table: ir.Value,
        kinds: str,
        dtypes: Sequence[str],
        passes: Sequence[Pass],
        outputs: Sequence[tuple[str, Expr]],
    ) -> None:
        self.q, self.lanes = q, target.vl
        self.kinds, self.dtypes = kinds, [np.dtype(d) for d in dtypes]
        self.passes, self.outputs = passes, outputs
        words = len(kinds) + len(outputs)
        self.base = [q.slot(table, 2 * i) for i in range(words)]
        self.step = [q.slot(table, 2 * i + 1) for i in range(words)]
        vectors = [d for k, d in zip(kinds, self.dtypes) if k == "v"] + [e.dtype for _, e in outputs]
        self.masked = can_mask(target, vectors)
        int64 = np.dtype(np.int64)
        self.counts = {
            i: expr_code.convert(q, self.base[i], int64, self.dtypes[i], 1) for i, k in enumerate(kinds) if k == "c"
        }

    def pointer(self, i: int, at: ir.Value) -> ir.Value:
        """Operand (or output) i after `at` steps."""
        return self.q.pointer(self.q.b.add(self.base[i], self.q.b.mul(at, self.step[i])))

    def single(self, i: int, at: ir.Value) -> ir.Value:
        """A number that is the same for the whole row or column."""
        return self.counts[i] if i in self.counts else self.q.load(self.pointer(i, at), self.dtypes[i], 1)


@micro(RowPasses)
def row_passes(
    module: ir.Module,
    symbol: str,
    target: Target,
    kinds: str,
    dtypes: tuple[str, ...],
    passes: tuple[Pass, ...],
    outputs: tuple[tuple[str, Expr], ...],
) -> None:
    """void(segments, n, table): passes over a row of `segments` pieces of n contiguous elements.

    kinds: 'v' elements of the row, 's' one number per segment, 'c' a count (the table's address word is the number).
    outputs: ('v', expression) for each element, ('s', expression) one number for the row.
    """
    fn, q = define(module, symbol, [I64, I64, PTR])
    segments, n, table = fn.args
    k = _Rows(q, target, table, kinds, dtypes, passes, outputs)
    k.segments, k.n = segments, n
    for p in passes:
        k.reduce(p)
    for j, (kind, e) in enumerate(outputs):
        k.store_row(j, e) if kind == "v" else k.store_number(j, e)
    q.b.ret_void()


class _Rows(_Passes):
    segments: ir.Value
    n: ir.Value

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.results: list[ir.Value] = []

    @contextmanager
    def each_segment(self, *expressions: Expr) -> Iterator[tuple[Callable, ir.Value]]:
        """A loop over segments: yields fetch(index, lanes, mask) -> operands, and the segment."""
        used = arguments(*expressions)
        with self.q.loop(self.segments) as s:
            rows = {i: self.pointer(i, s) for i, k in enumerate(self.kinds) if k == "v" and i in used}
            singles = {i: self.single(i, s) for i, k in enumerate(self.kinds) if k != "v" and i in used}
            yield (lambda index, lanes, mask: self.fetch(rows, singles, index, lanes, mask)), s

    def fetch(self, rows: dict, singles: dict, index: ir.Value, lanes: int, mask: ir.Value | None) -> Callable:
        q = self.q

        def operand(i: int) -> ir.Value:
            if i >= len(self.kinds):
                return q.splat(self.results[i - len(self.kinds)], lanes)
            if i in singles:
                return q.splat(singles[i], lanes)
            return load(q, element(q, rows[i], index, self.dtypes[i]), self.dtypes[i], lanes, mask)

        return operand

    def numbers(self, total: ir.Value | None = None) -> Callable:
        """Operands of an expression that is computed once a row; `total` is the last result, not finished yet."""
        results = self.results if total is None else [*self.results, total]
        return lambda i: results[i - len(self.kinds)] if i >= len(self.kinds) else self.single(i, i64(0))

    def reduce(self, p: Pass) -> None:
        q, lanes, dtype = self.q, self.lanes, p.map.dtype
        total, rest = self.fold(p)
        total = horizontal(q, p.combine, dtype, total, lanes)
        total = combined(q, p.combine, dtype, total, rest, 1)
        self.results.append(expr_code.emit(q, p.finish, self.numbers(total), 1))

    def fold(self, p: Pass, unroll: int | None = None) -> tuple[ir.Value, ir.Value]:
        """The row's mapped elements combined, but for the lanes of a vector, and for a tail that was not loaded as one."""
        q, lanes, dtype = self.q, self.lanes, p.map.dtype
        b, kind = q.b, register_type(dtype)
        neutral = identity_of(p.combine, dtype)
        unroll = unroll or (2 if primitives(p.map) & HEAVY else 4)
        accs = [q.variable(q.vector(kind, lanes)) for _ in range(unroll)]
        for a in accs:
            b.store(q.const(neutral, kind, lanes), a)
        rest = q.variable(kind)
        b.store(q.const(neutral, kind, 1), rest)
        with self.each_segment(p.map) as (fetch, s):
            kept = self.pointer(len(self.kinds), s)

            def step(acc: ir.Value, index: ir.Value, count: int, mask: ir.Value | None) -> None:
                value = expr_code.emit(q, p.map, fetch(index, count, mask), count)
                if p.keep:
                    store(q, value, element(q, kept, index, dtype), dtype, count, mask)
                if mask is not None:
                    value = b.select(mask, value, q.const(neutral, kind, count))
                b.store(combined(q, p.combine, dtype, b.load(acc), value, count), acc)

            whole = i64(0)
            if unroll > 1:
                whole = b.and_(self.n, i64(-lanes * unroll))
                with q.loop(whole, step=lanes * unroll) as i:
                    for u, acc in enumerate(accs):
                        step(acc, b.add(i, i64(u * lanes)), lanes, None)
            over_row(q, self.n, lanes, self.masked, lambda i, c, m: step(accs[0] if c > 1 else rest, i, c, m), whole)
        total = b.load(accs[0])
        for a in accs[1:]:
            total = combined(q, p.combine, dtype, total, b.load(a), lanes)
        return total, b.load(rest)

    def store_row(self, j: int, e: Expr) -> None:
        q = self.q
        with self.each_segment(e) as (fetch, s):
            row = self.pointer(len(self.kinds) + j, s)

            def step(index: ir.Value, lanes: int, mask: ir.Value | None) -> None:
                value = expr_code.emit(q, e, fetch(index, lanes, mask), lanes)
                store(q, value, element(q, row, index, e.dtype), e.dtype, lanes, mask)

            over_row(q, self.n, self.lanes, self.masked, step)

    def store_number(self, j: int, e: Expr) -> None:
        value = expr_code.emit(self.q, e, self.numbers(), 1)
        self.q.store(value, self.pointer(len(self.kinds) + j, i64(0)), e.dtype, 1)


@micro(ManyRows)
def many_rows(
    module: ir.Module, symbol: str, target: Target, dtypes: tuple[str, ...], reduction: Pass, output: Expr, short: bool
) -> None:
    """void(m, n, table): one pass over each of m rows of n elements, a number of each row. short: n is a few vectors.

    Operands: elements of the rows, a count; the outputs of the rows lie side by side. As many rows as a vector has lanes are
    finished together: their vectors become one by lanes (vl - 1 combinations for vl rows, where each row alone takes log2(vl)).
    """
    fn, q = define(module, symbol, [I64, I64, PTR])
    m, n, table = fn.args
    k, b, lanes = _Rows(q, target, table, "vc", dtypes, (reduction,), (("s", output),)), q.b, target.vl
    k.segments, k.n = i64(1), n
    rows, dtype, kind = k.base[0], reduction.map.dtype, register_type(reduction.map.dtype)
    vectors = [q.variable(q.vector(kind, lanes)) for _ in range(lanes)]
    item = np.dtype(output.dtype).itemsize
    rests, done = (b.bitcast(q.variable(ir.ArrayType(I64, lanes)), PTR) for _ in range(2))
    last = b.sub(m, i64(1))
    with q.loop(m, step=lanes) as first:
        for r, vector in enumerate(vectors):
            row = b.add(first, i64(r))
            row = b.select(b.icmp_signed("<", row, last), row, last)
            k.base[0] = b.add(rows, b.mul(row, k.step[0]))
            total, rest = k.fold(reduction, 1 if short else None)
            b.store(total, vector)
            q.store(rest, element(q, rests, i64(r), dtype), dtype, 1)
        total = side_by_side(q, reduction.combine, dtype, [b.load(v) for v in vectors], lanes)
        if not k.masked:
            total = combined(q, reduction.combine, dtype, total, q.load(rests, dtype, lanes), lanes)
        finished = expr_code.emit(
            q, reduction.finish, lambda i: total if i == 2 else q.splat(k.counts[i], lanes), lanes
        )
        result = expr_code.emit(q, output, lambda i: finished, lanes)
        y = q.pointer(b.add(k.base[2], b.mul(first, i64(item))))
        full = b.icmp_signed("<=", b.add(first, i64(lanes)), m)
        with b.if_else(full) as (whole, part):
            with whole:
                q.store(result, y, output.dtype, lanes)
            with part:
                q.store(result, done, output.dtype, lanes)
                with q.loop(b.sub(m, first)) as i:
                    value = q.load(element(q, done, i, output.dtype), output.dtype, 1)
                    q.store(value, element(q, y, i, output.dtype), output.dtype, 1)
    q.b.ret_void()


def side_by_side(q: Emit, combine: str, dtype: np.dtype, vectors: list[ir.Value], lanes: int) -> ir.Value:
    """As many vectors as lanes: lane i of the result is all lanes of vector i combined."""
    b = q.b
    pairs = [ir.Constant(ir.VectorType(I32, lanes), list(range(at, 2 * lanes, 2))) for at in (0, 1)]

    def joined(x: ir.Value, y: ir.Value) -> ir.Value:
        even, odd = (b.shuffle_vector(x, y, mask) for mask in pairs)
        return combined(q, combine, dtype, even, odd, lanes)

    while len(vectors) > 1:
        vectors = [joined(x, y) for x, y in zip(vectors[::2], vectors[1::2])]
    return vectors[0]


@micro(ColumnPasses)
def column_passes(
    module: ir.Module,
    symbol: str,
    target: Target,
    kinds: str,
    dtypes: tuple[str, ...],
    passes: tuple[Pass, ...],
    outputs: tuple[tuple[str, Expr], ...],
) -> None:
    """void(length, n, table): passes down n neighbouring columns of `length` elements, a byte step apart.

    kinds: 'v' one element per column at each step, 's' one number per step, 'c' a count (the table's address word).
    outputs: ('v', expression) for each element, ('s', expression) one number per column.
    """
    fn, q = define(module, symbol, [I64, I64, PTR])
    length, n, table = fn.args
    k = _Columns(q, target, table, kinds, dtypes, passes, outputs)
    k.length = length
    k.light = len(passes) == 1 and not any(kind == "v" for kind, _ in outputs)
    wide = 8 if k.light else 2
    whole = q.b.and_(n, i64(-target.vl * wide))
    with q.loop(whole, step=target.vl * wide) as i:
        k.columns([q.b.add(i, i64(u * target.vl)) for u in range(wide)], target.vl, None)
    over_row(q, n, target.vl, k.masked, lambda i, lanes, mask: k.columns([i], lanes, mask), whole)
    q.b.ret_void()


class _Columns(_Passes):
    length: ir.Value
    light: bool  # one pass, and nothing but its result is stored

    def columns(self, starts: list[ir.Value], lanes: int, mask: ir.Value | None) -> None:
        """All passes and outputs of the columns from each of `starts` on."""
        q, b = self.q, self.q.b
        results: list[list[ir.Value]] = []  # of each pass, one vector for each of `starts`
        for p in self.passes:
            dtype, kind = p.map.dtype, register_type(p.map.dtype)
            rows = ROWS_AT_ONCE if len(starts) == 1 and self.light else 1
            accs = [[q.variable(q.vector(kind, lanes)) for _ in range(rows)] for _ in starts]
            for a in itertools.chain(*accs):
                b.store(q.const(identity_of(p.combine, dtype), kind, lanes), a)

            def step(r: ir.Value, row: int, p: Pass = p, dtype: np.dtype = dtype, accs: list = accs) -> None:
                for u, (acc, i) in enumerate(zip(accs, starts)):
                    value = expr_code.emit(q, p.map, self.fetch(r, i, u, lanes, mask, results), lanes)
                    if p.keep:
                        self.store(0, r, i, value, dtype, lanes, mask)
                    b.store(combined(q, p.combine, dtype, b.load(acc[row]), value, lanes), acc[row])

            whole = b.and_(self.length, i64(-rows))
            with q.loop(whole, step=rows) as r:
                for row in range(rows):
                    step(b.add(r, i64(row)), row)
            if rows > 1:
                with q.loop(self.length, start=whole) as r:
                    step(r, 0)
            totals = [
                functools.reduce(lambda x, y: combined(q, p.combine, dtype, x, y, lanes), map(b.load, acc))  # noqa: B023
                for acc in accs
            ]
            finished = []
            for u, i in enumerate(starts):
                operands = self.fetch(i64(0), i, u, lanes, mask, [*results, totals])
                finished.append(expr_code.emit(q, p.finish, operands, lanes))
            results.append(finished)
        for j, (kind, e) in enumerate(self.outputs):
            with q.loop(self.length if kind == "v" else i64(1)) as r:
                for u, i in enumerate(starts):
                    value = expr_code.emit(q, e, self.fetch(r, i, u, lanes, mask, results), lanes)
                    self.store(j, r, i, value, e.dtype, lanes, mask)

    def fetch(self, r: ir.Value, i: ir.Value, u: int, lanes: int, mask: ir.Value | None, results: list) -> Callable:
        q = self.q

        def operand(x: int) -> ir.Value:
            if x >= len(self.kinds):
                return results[x - len(self.kinds)][u]
            if self.kinds[x] != "v":
                return q.splat(self.single(x, r), lanes)
            return load(q, element(q, self.pointer(x, r), i, self.dtypes[x]), self.dtypes[x], lanes, mask)

        return operand

    def store(
        self, j: int, r: ir.Value, i: ir.Value, value: ir.Value, dtype: np.dtype, lanes: int, mask: ir.Value | None
    ) -> None:
        at = element(self.q, self.pointer(len(self.kinds) + j, r), i, dtype)
        store(self.q, value, at, dtype, lanes, mask)


def arguments(*expressions: Expr) -> set[int]:
    """Indices of the operands that expressions read."""
    return {e.index for e in _parts(expressions) if e.prim == "arg"}


def primitives(*expressions: Expr) -> set[str]:
    """What expressions use."""
    return {e.prim for e in _parts(expressions)}


def _parts(expressions: Sequence[Expr]) -> Iterator[Expr]:
    stack = list(expressions)
    while stack:
        yield (e := stack.pop())
        stack.extend(e.args)

"""Endings of several neighbours of a row at once, by the widest loads and stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import truth
from graphc.backends.cuda.codegen.loops import place
from graphc.backends.cuda.product.product_block import BATCH
from graphc.backends.cuda.product.tile import Run
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.types import dtype_from_name


def finish_run(words: Block, expression: Expr, operands: Sequence[str], run: Run) -> Callable[..., None]:
    """finish(a, inside, column, row, b0, b1, b2, b3, totals): the expression of each of the totals goes where the result has that
    column and those behind it, if they are inside."""
    columns, row, batch, ref = words.in_record("columns row batch ref")
    kinds = [expression.dtype, *map(dtype_from_name, operands)]
    assert len(run.walks) == len(operands)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, args, inside, column, down, totals = q.b, q.pointer(a[0]), truth(q, a[1]), a[2], a[3], a[-1]
        records = [words.size + words.record_size * i for i in range(len(kinds))]

        def first(r: int) -> ir.Value:
            at = place(q, q.slot(args, r + ref), [column], args, r + columns)
            return place(q, at, [down, *a[4:-1]], args, r + row)

        with b.if_then(inside):
            values = [
                _read(q, first(r), kind, walk, q.slot(args, r + columns), run.count)
                for r, kind, walk in zip(records[1:], kinds[1:], run.walks)
            ]
            sums = [b.extract_value(totals, i) for i in range(run.count)]
            made = [expr_code.emit(q, expression, [sums[i], *(v[i] for v in values)], 1) for i in range(run.count)]
            q.store_run(made, q.pointer(first(records[0])), kinds[0])

    numbers, whole = types.UniTuple(types.float32, run.count), types.int64
    return device(emit, types.void, whole, types.boolean, *[whole] * (2 + BATCH), numbers)


def _read(q: CudaEmit, at: ir.Value, kind: np.dtype, walk: str, step: ir.Value, count: int) -> list[ir.Value]:
    """So many elements, as `Run` has the walk."""
    if walk == "r":
        return q.load_run(q.pointer(at), kind, count)
    if walk == "s":
        return [q.load(q.pointer(at), kind, 1)] * count
    places = [q.b.add(at, q.b.mul(step, ir.Constant(step.type, i))) for i in range(count)]
    return [q.load(q.pointer(p), kind, 1) for p in places]


def read_run(count: int) -> Callable[[int], object]:
    """read_run(count)(address): so many float32s, which begin at a multiple of their bytes."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        found = ir.Constant(ir.ArrayType(F32, count), ir.Undefined)
        for i, x in enumerate(q.load_run(q.pointer(a[0]), np.dtype(np.float32), count)):
            found = q.b.insert_value(found, x, i)
        return found

    return device(emit, types.UniTuple(types.float32, count), types.int64)


def write_run(count: int) -> Callable[[int, object], None]:
    """write_run(count)(address, totals): so many float32s, to a multiple of their bytes."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        q.store_run([q.b.extract_value(a[1], i) for i in range(count)], q.pointer(a[0]), np.dtype(np.float32))

    return device(emit, types.void, types.int64, types.UniTuple(types.float32, count))


def add_runs(count: int) -> Callable[..., object]:
    """add_runs(count)(x, y): element by element."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        found = a[0]
        for i in range(count):
            found = q.b.insert_value(found, q.b.fadd(*(q.b.extract_value(x, i) for x in a)), i)
        return found

    kind = types.UniTuple(types.float32, count)
    return device(emit, kind, kind, kind)

"""Several neighbouring channels to a thread, loaded and stored at once; of float32s that are on their way in shared memory, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, register
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import truth
from graphc.backends.cuda.codegen.loops import place
from graphc.backends.cuda.codegen.ptx import SHARED
from graphc.backends.cuda.product.product_block import BATCH
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, I32, I64
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.types import dtype_from_name


def _put(q: CudaEmit, a: Sequence[ir.Value]) -> None:
    q.b.store(a[1], q.b.inttoptr(a[0], ir.PointerType(F32, SHARED)), align=4)


# put(address, x): a float32 into shared memory
put = device(_put, types.void, types.int32, types.float32)


@cache
def take(count: int) -> Callable[[int], tuple[float, ...]]:
    """take(count)(address): so many float32s from shared memory, at a multiple of their bytes."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        kind = ir.VectorType(F32, count) if count > 1 else F32
        loaded = q.b.load(q.b.inttoptr(a[0], ir.PointerType(kind, SHARED)), align=4 * count, typ=kind)
        return _tuple(q.b, _elements(q.b, loaded, count))

    return device(emit, types.UniTuple(types.float32, count), types.int32)


@cache
def load_run(dtype: str, count: int) -> Callable[[int], tuple[Any, ...]]:
    """load_run(dtype, count)(address): so many neighbours in their register type, at a multiple of their bytes."""
    kind = dtype_from_name(dtype)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        return _tuple(q.b, q.load_run(q.pointer(a[0]), kind, count))

    return device(emit, types.UniTuple(register(kind), count), types.int64)


def each(
    combine: Callable[..., ir.Value], kind: Any, count: int, tuples: int, *others: Any
) -> Callable[..., tuple[Any, ...]]:
    """each(…)(tuples of `count` of a kind, others): combine(q, one of each tuple, others), again and again."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        rows = [[q.b.extract_value(x, i) for x in a[:tuples]] for i in range(count)]
        return _tuple(q.b, [combine(q, *row, *a[tuples:]) for row in rows])

    several = types.UniTuple(kind, count)
    return device(emit, several, *[several] * tuples, *others)


def filled(kind: Any, count: int) -> Callable[[Any], tuple[Any, ...]]:
    """filled(kind, count)(x): so many x."""
    return device(lambda q, a: _tuple(q.b, [a[0]] * count), types.UniTuple(kind, count), kind)


def finish_run(
    words: Block, kind: Any, expression: Expr, operands: Sequence[str], run: int, wide: Sequence[bool]
) -> Callable[..., None]:
    """finish(a, inside, w, h, d, row, b0, b1, b2, b3, totals): as `tile_kernels.finish`, of `run` neighbouring rows, which lie
    side by side in the result. kind: of the totals. wide: of each operand, do they there?"""
    columns, row, batch, ref = words.in_record("columns row batch ref")
    assert (row, batch) == (columns + 3, columns + 4)
    kinds = [expression.dtype, *map(dtype_from_name, operands)]

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        args, inside, at, b = q.pointer(a[0]), truth(q, a[1]), a[2:-1], q.b
        totals = [b.extract_value(a[-1], i) for i in range(run)]
        records = [words.size + words.record_size * i for i in range(len(kinds))]
        to, *others = (place(q, q.slot(args, r + ref), at, args, r + columns) for r in records)

        def read(x: ir.Value, r: int, kind: Any, together: bool) -> list[ir.Value]:
            if together:
                return q.load_run(q.pointer(x), kind, run)
            step = q.slot(args, r + row)
            each = [b.add(x, b.mul(step, ir.Constant(I64, i))) for i in range(run)]
            return [q.load(q.pointer(one), kind, 1) for one in each]

        with b.if_then(inside):
            values = [read(*one) for one in zip(others, records[1:], kinds[1:], wide)]
            made = [expr_code.emit(q, expression, [t, *(v[i] for v in values)], 1) for i, t in enumerate(totals)]
            q.store_run(made, q.pointer(to), kinds[0])

    places = [types.int64] * (4 + BATCH)
    return device(emit, types.void, types.int64, types.boolean, *places, types.UniTuple(kind, run))


def _tuple(b: ir.IRBuilder, values: Sequence[ir.Value]) -> ir.Value:
    found = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
    for i, x in enumerate(values):
        found = b.insert_value(found, x, i)
    return found


def _elements(b: ir.IRBuilder, x: ir.Value, count: int) -> list[ir.Value]:
    return [b.extract_element(x, I32(i)) for i in range(count)] if count > 1 else [x]

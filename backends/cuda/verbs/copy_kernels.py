"""Copies: an element per thread."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.loops import indices, place
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.verbs.copy_block import COPY_STRIDED, COPY_TABLES, CopyStrided, CopyTables
from graphc.backends.llvm.emit import I1, I64


@makes(CopyStrided)
def copy_strided(item: int, loops: int) -> Code:
    TOTAL, X, Y, DIMS, X_STRIDES, Y_STRIDES = COPY_STRIDED["total x y dims x_strides y_strides"]

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        block = q.pointer(a[0])
        at = indices(q, a[1], block, DIMS, loops)
        x = place(q, q.slot(block, X), at, block, X_STRIDES)
        y = place(q, q.slot(block, Y), at, block, Y_STRIDES)
        q.store_raw(q.load_raw(q.pointer(x), ir.IntType(8 * item), 1), q.pointer(y))

    element = device(emit, types.void, types.int64, types.int64)

    def copy_strided(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            element(a, i)

    return Code(copy_strided)


@makes(CopyTables)
def copy_by_table(item: int, tables: int) -> Code:
    TOTAL, X, Y, FILL, DIMS, TABLES = COPY_TABLES["total x y fill dims tables"]
    element = ir.IntType(8 * item)

    def source(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        """Address of what element number a[1] is a copy of."""
        b, block, zero = q.b, q.pointer(a[0]), ir.Constant(I64, 0)
        x, outside = q.slot(block, X), ir.Constant(I1, 0)
        for i, at in enumerate(indices(q, a[1], block, DIMS, tables)):
            table = q.pointer(q.slot(block, TABLES + i))
            offset = q.load_raw(q.offset(table, b.mul(at, ir.Constant(I64, 8))), I64, 1)
            outside = b.or_(outside, b.icmp_signed("<", offset, zero))
            x = b.add(x, offset)
        return b.select(outside, q.slot(block, FILL), x)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        y = q.b.add(q.slot(q.pointer(a[0]), Y), q.b.mul(a[1], ir.Constant(I64, item)))
        q.store_raw(q.load_raw(q.pointer(source(q, a)), element, 1), q.pointer(y))

    copy = device(emit, types.void, types.int64, types.int64)

    def copy_by_table(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            copy(a, i)

    return Code(copy_by_table)

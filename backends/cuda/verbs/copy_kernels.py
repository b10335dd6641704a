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
from graphc.backends.cuda.verbs.copy_block import COPY_STRIDED, CopyStrided

TOTAL, X, Y, DIMS, X_STRIDES, Y_STRIDES = COPY_STRIDED["total x y dims x_strides y_strides"]


@makes(CopyStrided)
def copy_strided(item: int, loops: int) -> Code:
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

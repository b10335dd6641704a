"""Elementwise kernels: an element per thread."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.loops import indices, place
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.verbs.map_block import MAP, MapElements
from graphc.backends.llvm import expr_code
from graphc.expr import Expr
from graphc.types import dtype_from_name

TOTAL, DIMS = MAP["total dims"]
REF, STRIDES = MAP.in_record("ref strides")


@makes(MapElements)
def map_elements(expression: Expr, dtypes: tuple[str, ...], loops: int) -> Code:
    kinds = [dtype_from_name(d) for d in dtypes]

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        block = q.pointer(a[0])
        at = indices(q, a[1], block, DIMS, loops)
        records = [MAP.size + MAP.record_size * k for k in range(len(kinds))]
        to, *operands = (place(q, q.slot(block, r + REF), at, block, r + STRIDES) for r in records)
        values = [q.load(q.pointer(x), kind, 1) for x, kind in zip(operands, kinds[1:])]
        q.store(expr_code.emit_to_store(q, expression, values, 1), q.pointer(to), kinds[0], 1)

    element = device(emit, types.void, types.int64, types.int64)

    def map_elements(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            element(a, i)

    return Code(map_elements)

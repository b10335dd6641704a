"""Several elements of shared memory by one load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.llvm.emit import F32, I32

DATA = 4  # the member of Numba's arrays that points to their elements
KINDS = {"float32": F32, "int32": I32}


@cache
def run_of(dtype: str, count: int) -> Callable[[Any, int], tuple[Any, ...]]:
    """run_of(dtype, count)(shared, at): so many elements of a shared array of one dim from number `at` on, a multiple
    of the count. The array must begin at a multiple of their bytes. libNVVM makes no vector loads of scalar ones by
    itself."""
    element = KINDS[dtype]

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b, kind = q.b, ir.VectorType(element, count)
        start = b.gep(b.extract_value(a[0], DATA), [a[1]])
        loaded = b.load(b.bitcast(start, kind.as_pointer()), align=4 * count, typ=kind)
        found = ir.Constant(ir.ArrayType(element, count), ir.Undefined)
        for i in range(count):
            found = b.insert_value(found, b.extract_element(loaded, ir.Constant(I32, i)), i)
        return found

    scalar = getattr(types, dtype)
    return device(emit, types.UniTuple(scalar, count), types.Array(scalar, 1, "C"), types.int64)

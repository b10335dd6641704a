"""Loads that happen only where they may, and the small arithmetic of places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, register
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.llvm.emit import I1, register_type
from graphc.types import dtype_from_name


def truth(q: CudaEmit, x: ir.Value) -> ir.Value:
    """Numba's boolean as one bit."""
    return x if x.type == I1 else q.b.icmp_unsigned("!=", x, ir.Constant(x.type, 0))


@cache
def load_where(dtype: str) -> Callable[[bool, int], Any]:
    """load_where(inside, address): the element there in its register type, or 0 where it is not inside: nothing is read."""
    kind = dtype_from_name(dtype)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b, inside = q.b, truth(q, a[0])
        before, read, after = b.block, b.append_basic_block("read"), b.append_basic_block("after")
        b.cbranch(inside, read, after)
        b.position_at_end(read)
        value, end = q.load(q.pointer(a[1]), kind, 1), b.block
        b.branch(after)
        b.position_at_end(after)
        result = b.phi(register_type(kind))
        result.add_incoming(q.const(0, register_type(kind), 1), before)
        result.add_incoming(value, end)
        return result

    return device(emit, register(dtype), types.boolean, types.int64)


# divide(x, by): of int32s that are not negative, 32 bits wide
divide = device(lambda q, a: q.b.udiv(a[0], a[1]), types.int32, types.int32, types.int32)
# divide_wide(x, by): of int64s that are not negative
divide_wide = device(lambda q, a: q.b.udiv(a[0], a[1]), types.int64, types.int64, types.int64)

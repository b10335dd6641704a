"""Memory of states, in shared or in scratch memory: pointers, so that the compiler sees which of the two it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from graphc.backends.cuda.codegen.device import device, register
from graphc.backends.cuda.codegen.emit import GLOBAL, CudaEmit
from graphc.backends.llvm.emit import PTR, i64, register_type


@intrinsic
def pointer_of(typing: Any, array: Any) -> Any:
    """Where an array begins."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        (kind,) = signature.args
        return builder.bitcast(context.make_array(kind)(context, builder, value=args[0]).data, PTR)

    return types.voidptr(array), code


def element(q: CudaEmit, states: ir.Value, at: ir.Value, dtype: np.dtype) -> ir.Value:
    """Number `at`."""
    return q.offset(states, q.b.mul(at, i64(dtype.itemsize)))


def _pointer_to(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    """In global memory, and a multiple of 16, as the compiler can see: it reads four rows at once."""
    found = q.b.inttoptr(q.b.and_(a[0], i64(-16)), ir.PointerType(ir.IntType(8), GLOBAL))
    return q.b.addrspacecast(found, PTR)


pointer_to = device(_pointer_to, types.voidptr, types.int64)  # pointer_to(address)

# moved(pointer, bytes)
moved = device(lambda q, a: q.offset(a[0], a[1]), types.voidptr, types.voidptr, types.int64)


@cache
def accessors(dtype: np.dtype) -> tuple[Callable[..., Any], Callable[..., None]]:
    """get(states, at), put(states, at, value)."""
    one, kind = register(dtype), register_type(dtype)

    def emit_get(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        return q.load_raw(element(q, a[0], a[1], dtype), kind, 1)

    def emit_put(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        q.store_raw(a[2], element(q, a[0], a[1], dtype))

    get = device(emit_get, one, types.voidptr, types.int64)
    return get, device(emit_put, types.void, types.voidptr, types.int64, one)


def _pick(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    number, *values = a
    found = values[-1]
    for i in reversed(range(len(values) - 1)):
        found = q.b.select(q.b.icmp_signed("==", number, ir.Constant(number.type, i)), values[i], found)
    return found


@cache
def pick_of(dtype: np.dtype) -> Callable[..., Any]:
    """pick(number, value0 … value3)"""
    return device(_pick, register(dtype), types.int32, *[register(dtype)] * 4)

"""Memory of states, in shared or in scratch memory: pointers, so that the compiler sees which of the two it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import GLOBAL, CudaEmit
from graphc.backends.llvm.emit import F32, PTR, i64


@intrinsic
def pointer_of(typing: Any, array: Any) -> Any:
    """Where an array begins."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        (kind,) = signature.args
        return builder.bitcast(context.make_array(kind)(context, builder, value=args[0]).data, PTR)

    return types.voidptr(array), code


def element(q: CudaEmit, states: ir.Value, at: ir.Value) -> ir.Value:
    """Of float32, number `at`."""
    return q.offset(states, q.b.mul(at, i64(4)))


def _pointer_to(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    """In global memory, and a multiple of 16, as the compiler can see: it reads four rows at once."""
    found = q.b.inttoptr(q.b.and_(a[0], i64(-16)), ir.PointerType(ir.IntType(8), GLOBAL))
    return q.b.addrspacecast(found, PTR)


pointer_to = device(_pointer_to, types.voidptr, types.int64)  # pointer_to(address)
# get(states, at), put(states, at, value)
get = device(lambda q, a: q.load_raw(element(q, a[0], a[1]), F32, 1), types.float32, types.voidptr, types.int64)
put = device(
    lambda q, a: q.store_raw(a[2], element(q, a[0], a[1])), types.void, types.voidptr, types.int64, types.float32
)


def _pick(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    number, *values = a
    found = values[-1]
    for i in reversed(range(len(values) - 1)):
        found = q.b.select(q.b.icmp_signed("==", number, ir.Constant(number.type, i)), values[i], found)
    return found


pick = device(_pick, types.float32, types.int32, *[types.float32] * 4)  # pick(number, value0 … value3)

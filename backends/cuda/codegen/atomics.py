"""Atomic operations on int64 words in the GPU's memory: each gives the word as it was before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import GLOBAL, CudaEmit
from graphc.backends.llvm.emit import I64

ORDER = "monotonic"  # libNVVM knows no other: what must be seen in order needs a fence


def _word(q: CudaEmit, address: ir.Value) -> ir.Value:
    return q.b.inttoptr(address, I64.as_pointer(GLOBAL))


def _changes(operation: str) -> Callable[..., Any]:
    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        return q.b.atomic_rmw(operation, _word(q, a[0]), a[1], ORDER)

    return device(emit, types.int64, types.int64, types.int64)


def _swap_if(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    return q.b.extract_value(q.b.cmpxchg(_word(q, a[0]), a[1], a[2], ORDER, ORDER), 0)


def _read(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    return q.b.atomic_rmw("or", _word(q, a[0]), ir.Constant(I64, 0), ORDER)


exchange = _changes("xchg")  # exchange(address, value)
raise_to = _changes("max")  # raise_to(address, value): the larger one stays
exchange_if = device(_swap_if, types.int64, types.int64, types.int64, types.int64)  # exchange_if(address, is, value)
read = device(_read, types.int64, types.int64)  # read(address): what no cache has kept
# fence(): other threads of the grid see what this one wrote before it before what it writes after it
fence = device(lambda q, a: q.call("llvm.nvvm.membar.gl", ir.VoidType()), types.void)

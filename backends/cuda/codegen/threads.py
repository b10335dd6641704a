"""Where a thread is, as int64."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.llvm.emit import I32, I64


def _register(q: CudaEmit, name: str) -> ir.Value:
    return q.b.zext(q.call(f"llvm.nvvm.read.ptx.sreg.{name}", I32), I64)


def _thread_number(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    return q.b.add(q.b.mul(_register(q, "ctaid.x"), a[0]), _register(q, "tid.x"))


thread = device(lambda q, a: _register(q, "tid.x"), types.int64)  # thread(): of the block
block = device(lambda q, a: _register(q, "ctaid.x"), types.int64)  # block(): of the grid
thread_number = device(_thread_number, types.int64, types.int64)  # thread_number(threads of a block): of the grid

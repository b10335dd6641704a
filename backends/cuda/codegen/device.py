"""Functions that kernels call: small ones of LLVM IR, made for the dtype or the expression at hand.

Numba compiles the loops, and takes these as they are: `device(emit, returns, *params)` makes of an emitter what a kernel can
call. Addresses are int64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import I64
from graphc.expr import Expr
from graphc.types import dtype_from_name

Emitter = Callable[[CudaEmit, Sequence[ir.Value]], "ir.Value | None"]
_NAMES = {"float16": "float32", "bfloat16": "float32", "bool": "boolean"}  # what a register holds


def register(dtype: np.dtype | str) -> Any:
    """The Numba type of an element in a register: half precisions are computed in float32."""
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    return getattr(types, _NAMES.get(name, name))


def device(emit: Emitter, returns: Any, *params: Any) -> Callable[..., Any]:
    """What a kernel calls: `emit(q, args)` writes the IR and gives the result. returns, params: Numba types."""
    names = [f"a{i}" for i in range(len(params))]

    def typed(typing: Any, *given: Any) -> Any:
        signature = returns(*params)

        def code(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            result = emit(CudaEmit(builder), args)
            return context.get_dummy_value() if result is None else result

        return signature, code

    # Numba reads the number of parameters from the function
    scope: dict[str, Any] = {"typed": typed}
    exec(f"def function(typing, {', '.join(names)}): return typed(typing, {', '.join(names)})", scope)
    made: Callable[..., Any] = intrinsic(scope["function"])
    return made


@cache
def load(dtype: str) -> Callable[[int], Any]:
    """load(address): the element there, in its register type."""
    kind = dtype_from_name(dtype)
    return device(lambda q, a: q.load(q.pointer(a[0]), kind, 1), register(dtype), types.int64)


@cache
def store(dtype: str) -> Callable[[int, Any], None]:
    """store(address, value): rounds to the dtype."""
    kind = dtype_from_name(dtype)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        q.store(a[1], q.pointer(a[0]), kind, 1)

    return device(emit, types.void, types.int64, register(dtype))


@cache
def move(item: int) -> Callable[[int, int], None]:
    """move(to, source): `item` bytes, 1, 2, 4 or 8, from one address to another."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        q.store_raw(q.load_raw(q.pointer(a[1]), ir.IntType(8 * item), 1), q.pointer(a[0]))

    return device(emit, types.void, types.int64, types.int64)


def function_of(e: Expr, dtypes: Sequence[np.dtype]) -> Callable[..., Any]:
    """An expression of operands of these dtypes, in register types."""
    return device(lambda q, xs: expr_code.emit(q, e, xs, 1), register(e.dtype), *map(register, dtypes))


def _word(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    return q.load_raw(q.offset(q.pointer(a[0]), q.b.mul(a[1], ir.Constant(I64, 8))), I64, 1)


word = device(_word, types.int64, types.int64, types.int64)  # word(a, i): number i of an argument block

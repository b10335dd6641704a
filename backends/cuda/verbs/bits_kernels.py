"""Numbers of any dtype as bits, for shuffles and shared memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, register
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.llvm.emit import register_type

ALL = 0xFFFFFFFF  # lanes of a warp


def bits_type(*dtypes: np.dtype) -> Any:
    """The Numba type of integers that hold any of them: int32 or int64."""
    return types.int64 if any(d.itemsize > 4 for d in dtypes) else types.int32


def to_bits(q: CudaEmit, x: ir.Value, bits: Any) -> ir.Value:
    """A number in its register type as an integer of that many bits."""
    width = ir.IntType(bits.bitwidth)
    if not isinstance(x.type, ir.IntType):
        x = q.b.bitcast(x, ir.IntType(32 if isinstance(x.type, ir.FloatType) else 64))
    return x if x.type == width else q.b.zext(x, width)


def from_bits(q: CudaEmit, x: ir.Value, dtype: np.dtype) -> ir.Value:
    """The inverse."""
    kind = register_type(dtype)
    whole = kind if isinstance(kind, ir.IntType) else ir.IntType(32 if isinstance(kind, ir.FloatType) else 64)
    x = x if x.type == whole else q.b.trunc(x, whole)
    return x if whole == kind else q.b.bitcast(x, kind)


def as_bits(dtype: np.dtype) -> Callable[[Any], int]:
    """as_bits(dtype)(number) for kernels."""
    bits = bits_type(dtype)
    return device(lambda q, a: to_bits(q, a[0], bits), bits, register(dtype))


def as_number(dtype: np.dtype) -> Callable[[int], Any]:
    """The inverse."""
    return device(lambda q, a: from_bits(q, a[0], dtype), register(dtype), bits_type(dtype))

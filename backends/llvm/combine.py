"""What reductions and scans combine numbers with."""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from graphc import expr
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import Emit
from graphc.dtypes import int_range, is_float, is_integer
from graphc.expr import Expr


def identity_of(combine: str, dtype: np.dtype) -> int | float | bool:
    """What changes nothing when it is combined."""
    dtype = np.dtype(dtype)
    if combine in ("max", "min"):
        low = combine == "max"
        if dtype == np.bool_:
            return not low
        if is_float(dtype):
            return float("-inf") if low else float("inf")
        return int_range(dtype)[0 if low else 1]
    if combine == "and" and is_integer(dtype):
        return -1
    return {"add": 0, "or": 0, "mul": 1, "and": 1}[combine]


def combined(q: Emit, combine: str, dtype: np.dtype, x: ir.Value, y: ir.Value, lanes: int = 1) -> ir.Value:
    e = Expr(combine, (expr.arg(0, dtype), expr.arg(1, dtype)), np.dtype(dtype))
    return expr_code.emit(q, e, [x, y], lanes)

"""Rounding to whole numbers, which stay floats."""

from __future__ import annotations

from numba.cuda import types
from numba.cuda.extending import register_jitable

from graphc.backends.cuda.codegen.device import device

rounded_down = device(lambda q, a: q.intrinsic("floor", a[0]), types.float64, types.float64)
rounded_up = device(lambda q, a: q.intrinsic("ceil", a[0]), types.float64, types.float64)
nearest = device(lambda q, a: q.intrinsic("roundeven", a[0]), types.float64, types.float64)  # halves to the even one


@register_jitable
def is_finite(x):
    return x - x == 0

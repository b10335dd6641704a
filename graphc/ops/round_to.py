"""RoundTo: numbers with the digits and the range of a narrower type. What stands between operators of float16 or bfloat16 that
kernels compute in float32 (graphc/passes/widen.py); no file has it."""

from __future__ import annotations

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_float, is_narrow
from graphc.op import Attr, Call, Case, Op, Samples, Tensor, register
from graphc.types import TensorType, dtype_from_name


def infer(call: Call) -> list[TensorType]:
    """The operand's type, of floating-point numbers."""
    if not is_float(call.dtype(0)):
        raise call.fail(f"rounds floating-point numbers, not {call.dtype(0).name}")
    if not is_narrow(call.attrs.to):
        raise call.fail(f"rounds to a floating-point type narrower than float32, not {call.attrs.to.name}")
    return [call.type(0)]


def scalar(x: e.Number, to: np.dtype) -> e.Number:
    """Kernels take float64 to float32 first."""
    narrow = e.cast(x, to)
    return e.cast(narrow, x.dtype) if isinstance(x, e.Expr) else narrow


def reference(x: np.ndarray, to: np.dtype) -> np.ndarray:
    """Nearest, ties to even; beyond its largest number infinity."""
    with np.errstate(over="ignore"):
        return x.astype(to).astype(x.dtype)


register(
    Op(
        "RoundTo",
        ("x",),
        infer,
        reference,
        {"to": Attr("dtype")},
        scalar=scalar,
        scalar_attrs=("to",),
        expand=lambda b, call: b.add("Cast", b.add("Cast", call.inputs[0], to=call.attrs.to), to=call.dtype(0)),
        tolerance=0.0,
        samples=Samples(
            ("float32",),
            cases=tuple(
                Case((Tensor((3, 20), -size, size),), {"to": dtype_from_name(to)})
                for to in ("float16", "bfloat16")
                for size in (1e-6, 4.0, 1e5)
            ),
            special=(np.nan, np.inf, -np.inf),
        ),
        internal=True,
    )
)

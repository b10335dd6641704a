"""ConvPairs: the convolution of bfloat16 operands with sums in float32, which nothing rounds before an epilogue. What convolutions
become where a caller asks for bfloat16 (graphc/passes/bfloat16_convolutions.py); no file has it."""

from __future__ import annotations

import numpy as np

from graphc.dtypes import is_narrow
from graphc.graph import Builder, Value
from graphc.op import Call, Case, Op, Samples, Tensor, register
from graphc.ops.contract import require_dtype, require_same_dtype
from graphc.ops.window import CONV_ATTRS, conv, conv_macs, conv_shape
from graphc.types import TensorType

FLOAT32 = np.dtype(np.float32)


def _sums(dtype: np.dtype) -> np.dtype:
    """The type of the sums: wider types sum in their own."""
    return FLOAT32 if is_narrow(dtype) else dtype


def _infer(call: Call) -> list[TensorType]:
    require_dtype(call, 0, ("bfloat16", "float32", "float64"))
    require_same_dtype(call, 0, 1)
    return [TensorType(_sums(call.dtype(0)), conv_shape(call))]


def _reference(x, w, **attrs):
    """In float64, rounded to the type of the sums once."""
    return conv(x.astype(np.float64), w.astype(np.float64), None, **attrs).astype(_sums(x.dtype))


def _expand(b: Builder, call: Call) -> Value:
    x, w = (b.add("Cast", v, to=_sums(v.dtype)) for v in call.inputs)
    return b.add("Conv", x, w, **call.attrs)


_USES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict], ...] = (
    ((1, 8, 5, 7), (16, 8, 1, 1), {}),
    ((2, 3, 13, 13), (5, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 3, 15, 15), (20, 3, 5, 5), {"pads": (2, 1, 1, 2), "strides": (2, 2)}),
    ((2, 6, 7, 13), (4, 3, 3, 2), {"group": 2, "strides": (2, 1), "pads": (0, 1, 1, 0)}),
    ((1, 9, 7, 7), (9, 1, 3, 3), {"group": 9, "auto_pad": "SAME_UPPER", "strides": (2, 2)}),
    ((1, 40, 6, 9), (40, 1, 3, 3), {"group": 40, "pads": (1, 1, 1, 1)}),
    ((1, 33, 9, 9), (17, 33, 1, 1), {"strides": (2, 2)}),
    ((1, 4, 17), (6, 4, 3), {"dilations": (2,)}),
)

register(
    Op(
        "ConvPairs",
        ("x", "w"),
        _infer,
        _reference,
        CONV_ATTRS,
        expand=_expand,
        macs=conv_macs,
        tolerance=1e-5,  # of float32 sums
        per_sample=True,
        samples=Samples(
            ("bfloat16",),
            cases=tuple(
                Case((Tensor(x, dtype="bfloat16"), Tensor(w, dtype="bfloat16")), attrs) for x, w, attrs in _USES
            ),
        ),
        windowed=True,
        internal=True,
    )
)

"""Operators of ONNX's main domain that were only ever experimental: converters of Core ML and Caffe2 wrote them, and ONNX
Runtime and Windows ML run them."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype
from graphc.ops.contrib.record import applied, composed
from graphc.ops.precision import in_float32


def _floats(call: Call) -> None:
    require_dtype(call, 0, FLOAT_NAMES)


def _emit_scaled(b: Builder, x: Value, factor: float, more: float = 0.0) -> Value:
    y = x if factor == 1 else b.add("Mul", x, b.constant(factor, x.dtype))
    return y if more == 0 else b.add("Add", y, b.constant(more, x.dtype))


_ONE = Tensor((3, 5))
_AB = {"alpha": Attr(float), "beta": Attr(float)}
_CURVED = [Case((_ONE,), {"alpha": 0.5, "beta": 2.0})]


def _curve(name: str, op: str, function) -> None:
    """alpha · f(beta · x)."""
    composed(
        name,
        "x",
        in_float32(lambda x, alpha, beta: x.dtype.type(alpha) * function(x.dtype.type(beta) * x)),
        lambda b, call: _emit_scaled(b, b.add(op, _emit_scaled(b, call.inputs[0], call.attrs.beta)), call.attrs.alpha),
        _CURVED,
        _AB,
        check=_floats,
        domain="",
    )


_curve("ScaledTanh", "Tanh", np.tanh)
_curve("ParametricSoftplus", "Softplus", lambda x: np.logaddexp(x, 0).astype(x.dtype))
composed(
    "Affine",
    "x",
    in_float32(lambda x, alpha, beta: x * x.dtype.type(alpha) + x.dtype.type(beta)),
    lambda b, call: b.add("Identity", _emit_scaled(b, call.inputs[0], call.attrs.alpha, call.attrs.beta)),
    [*_CURVED, Case((_ONE,))],
    {"alpha": Attr(float, 1.0), "beta": Attr(float, 0.0)},
    check=_floats,
    domain="",
)
composed(
    "Scale",
    "x",
    in_float32(lambda x, scale: x * x.dtype.type(scale)),
    lambda b, call: b.add("Identity", _emit_scaled(b, call.inputs[0], call.attrs.scale)),
    [Case((_ONE,), {"scale": 0.5}), Case((_ONE,))],
    {"scale": Attr(float, 1.0)},
    check=_floats,
    domain="",
)


# --- images -----------------------------------------------------------------------------------------------------------
def _check_image(call: Call) -> None:
    _floats(call)
    if call.rank(0) != 4:
        raise call.fail(f"takes images [N, C, H, W], not {call.shape(0)}")


def _check_bias(call: Call) -> None:
    _check_image(call)
    if differ(len(call.attrs.bias), call.shape(0)[1]):
        raise call.fail(f"bias has {len(call.attrs.bias)} numbers, x {call.shape(0)[1]} channels", "give one for each")


def _expand_scaler(b: Builder, call: Call) -> Value:
    bias = b.constant(np.reshape(call.attrs.bias, (1, -1, 1, 1)), call.dtype(0))
    return b.add("Add", _emit_scaled(b, call.inputs[0], call.attrs.scale), bias)


composed(
    "ImageScaler",
    "x",
    in_float32(lambda x, bias, scale: x * x.dtype.type(scale) + np.array(bias, x.dtype).reshape(1, -1, 1, 1)),
    _expand_scaler,
    [Case((Tensor((2, 3, 4, 5)),), {"bias": (1.0, -2.0, 0.5), "scale": 0.5})],
    {"bias": Attr("floats"), "scale": Attr(float, 1.0)},
    check=_check_bias,
    domain="",
)


def _check_crop(call: Call) -> None:
    _check_image(call)
    if len(call.attrs.border) != 4 or min(call.attrs.border) < 0:
        raise call.fail(f"border is {call.attrs.border}", "give left, top, right and bottom")
    if call.attrs.scale is not None and (len(call.attrs.scale) != 2 or min(call.attrs.scale) < 1):
        raise call.fail(f"scale is {call.attrs.scale}", "give a height and a width")
    left, top, right, bottom = call.attrs.border
    for axis, first, end in ((2, top, bottom), (3, left, right)):
        taken = call.attrs.scale[axis - 2] if call.attrs.scale else end + 1
        if isinstance(call.shape(0)[axis], int) and first + taken > call.shape(0)[axis]:
            raise call.fail(f"nothing or too little of axis {axis} of {call.shape(0)} is left")


def _expand_crop(b: Builder, call: Call) -> Value:
    left, top, right, bottom = call.attrs.border
    if call.attrs.scale:
        ends = [first + size for first, size in zip((top, left), call.attrs.scale)]
    else:
        ends = [-end if end else 2**31 - 1 for end in (bottom, right)]
    starts, behind, axes = (b.constant(v, np.int64) for v in ([top, left], ends, [2, 3]))
    return b.add("Slice", call.inputs[0], starts, behind, axes)


def _crop(x, border, scale):
    left, top, right, bottom = border
    if scale:
        return x[:, :, top : top + scale[0], left : left + scale[1]]
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


composed(
    "Crop",
    "x",
    _crop,
    _expand_crop,
    [
        Case((Tensor((1, 2, 7, 8)),), {"border": (1, 2, 3, 1)}),
        Case((Tensor((1, 2, 7, 8)),), {"border": (0, 1, 0, 0)}),
        Case((Tensor((1, 2, 7, 8)),), {"border": (1, 2, 3, 1), "scale": (3, 2)}),
    ],
    {"border": Attr("ints"), "scale": Attr("ints", None)},
    check=_check_crop,
    domain="",
    tolerance=0.0,
)


# --- the others -------------------------------------------------------------------------------------------------------
composed(
    "DynamicSlice",
    "x starts ends axes?",
    lambda x, starts, ends, axes=None: applied("Slice", x, starts, ends, axes),
    lambda b, call: b.add("Slice", *call.inputs),
    [
        Case((Tensor((6, 5)), Const([1, 0]), Const([4, 3]))),
        Case((Tensor((6, 5)), Const([1]), Const([-1]), Const([1]))),
    ],
    domain="",
    values=(1, 2, 3),
    tolerance=0.0,
)

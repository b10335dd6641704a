"""Elementwise operators, Concat and Softmax on bytes: (q - zero) · scale, the operator in float32, and back to bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.contract import require_dtype
from graphc.ops.contrib.affine_bytes import (
    emit_bytes,
    emit_centred,
    emit_real,
    in_bytes,
    real,
    require_bytes,
    require_one,
    scalar,
    scale,
    some,
    wide,
    zero,
)
from graphc.ops.contrib.record import composed, operands
from graphc.ops.quantize import emit_quantized

KINDS = ("uint8", "int8")


# --- two operands -----------------------------------------------------------------------------------------------------
def _check_pair(call: Call) -> None:
    dtype = require_bytes(call, 0, 2)
    for i, z in ((3, 5), (3, 7)):
        require_bytes(call, i, z)
    if call.dtype(3) != dtype:
        raise call.fail(f"operands differ in dtype: {dtype} and {call.dtype(3)}", "insert a Cast")
    require_one(call, 1, 2, 4, 5, 6, 7)


def _sum(b: Builder, call: Call) -> Value:
    x, sx, zx, y, sy, zy, s, z = operands(call, 8)
    v = b.add("Add", emit_real(b, x, sx, zx), emit_real(b, y, sy, zy))
    return emit_bytes(b, v, s, z, call.dtype(0), shifted=True)


def _sum_reference(x, sx, zx, y, sy, zy, s, z=None):
    return in_bytes(real(x, sx, zx) + real(y, sy, zy), s, z, x.dtype, shifted=True)


def _product(b: Builder, call: Call) -> Value:
    """The whole product times one number, a_scale · b_scale / c_scale: so ONNX Runtime's ties are met."""
    x, sx, zx, y, sy, zy, s, z = operands(call, 8)
    dtype = wide(sx)
    whole = b.add("Mul", *(emit_centred(b, v, scalar(b, zero), dtype) for v, zero in ((x, zx), (y, zy))))
    sx, sy, s = (b.add("Cast", scalar(b, v), to=dtype) for v in (sx, sy, s))
    v = b.add("Mul", whole, b.add("Div", b.add("Mul", sx, sy), s))
    return emit_bytes(b, v, b.constant(1.0, dtype), z, call.dtype(0), shifted=True)


def _product_reference(x, sx, zx, y, sy, zy, s, z=None):
    one = np.ones((), np.asarray(sx).dtype)
    ratio = np.reshape(sx * sy / s, ())
    return in_bytes(real(x, one, zx) * real(y, one, zy) * ratio, one, z, x.dtype, shifted=True)


def _pair(name: str, expand: Callable, reference: Callable) -> None:
    def case(kind: str, a: tuple[int, ...], b: tuple[int, ...]) -> Case:
        operands = (some(kind, *a), scale(0.25), zero(kind), some(kind, *b), scale(0.125), zero(kind, first=9))
        return Case((*operands, scale(0.5), zero(kind, first=5)))

    composed(
        name,
        "a a_scale a_zero_point? b b_scale b_zero_point? c_scale c_zero_point?",
        reference,
        expand,
        [case(k, a, b) for k in KINDS for a, b in (((7, 40), (7, 40)), ((2, 3, 5), (5,)), ((1, 4), (3, 1)))],
        check=_check_pair,
        dtypes=("uint8",),
        tolerance=0.0,
    )


_pair("QLinearAdd", _sum, _sum_reference)
_pair("QLinearMul", _product, _product_reference)


# --- one operand ------------------------------------------------------------------------------------------------------
def _check_single(call: Call) -> None:
    require_bytes(call, 0, 2)
    require_bytes(call, 0, 4)
    require_one(call, 1, 2, 3, 4)


def _single(
    name: str,
    emit: Callable[[Builder, Value, Call], Value],
    function: Callable[..., np.ndarray],
    uses: list[tuple[tuple[int, ...], Mapping[str, Any]]],
    attrs: Mapping[str, Attr],
    y_scale: float,
) -> None:
    def expand(b: Builder, call: Call) -> Value:
        x, sx, zx, s, z = operands(call, 5)
        return emit_bytes(b, emit(b, emit_real(b, x, sx, zx), call), s, z, call.dtype(0))

    def reference(x, sx, zx, s, z=None, **given):
        return in_bytes(function(real(x, sx, zx), **given), s, z, x.dtype)

    composed(
        name,
        "x x_scale x_zero_point? y_scale y_zero_point?",
        reference,
        expand,
        [
            Case((some(k, *shape), scale(0.0625), zero(k), scale(y_scale), zero(k, first=5)), given)
            for k in KINDS
            for shape, given in uses
        ],
        attrs,
        check=_check_single,
        dtypes=("uint8",),
        tolerance=0.0,
    )


_single(
    "QLinearSigmoid",
    lambda b, v, call: b.add("Sigmoid", v),
    lambda v: 1 / (1 + np.exp(-v)),
    [((5, 17), {})],
    {},
    2.0**-8,
)
_single(
    "QLinearLeakyRelu",
    lambda b, v, call: b.add("LeakyRelu", v, alpha=call.attrs.alpha),
    lambda v, alpha: np.where(v < 0, v * v.dtype.type(alpha), v),
    [((5, 17), {"alpha": 0.25}), ((2, 3, 4), {})],
    {"alpha": Attr(float, 0.01)},
    0.125,
)


def _emit_softmax(b: Builder, v: Value, call: Call) -> Value:
    """Below opset 13 all axes from `axis` on are one."""
    axis = call.axis_of(call.attrs.axis, len(v.shape))
    if call.attrs.opset >= 13 or axis == len(v.shape) - 1:
        return b.add("Softmax", v, axis=axis)
    axes = b.constant(range(axis, len(v.shape)), np.int64)
    powers = b.add("Exp", b.add("Sub", v, b.add("ReduceMax", v, axes)))
    return b.add("Div", powers, b.add("ReduceSum", powers, axes))


def _softmax(v: np.ndarray, axis: int, opset: int) -> np.ndarray:
    axes = tuple(range(axis % v.ndim, v.ndim)) if opset < 13 else (axis,)
    powers = np.exp(v - v.max(axes, keepdims=True))
    return powers / powers.sum(axes, keepdims=True)


def _expand_softmax(b: Builder, call: Call) -> Value:
    """As ONNX Runtime has it, 1 / y_scale is a whole number, rounded down: 254 for a scale of 1/255."""
    x, sx, zx, s, z = operands(call, 5)
    p, zero = _emit_softmax(b, emit_real(b, x, sx, zx), call), scalar(b, z)
    steps = b.add("Floor", b.add("Div", b.constant(1, p.dtype), scalar(b, s)))
    return emit_quantized(b, b.add("Mul", p, steps), zero, call.dtype(0))


def _softmax_reference(x, sx, zx, s, z=None, *, axis, opset):
    steps = np.floor(np.ones(1, s.dtype) / s.reshape(()))
    return in_bytes(_softmax(real(x, sx, zx), axis, opset) * steps, np.ones(1, s.dtype), z, x.dtype)


composed(
    "QLinearSoftmax",
    "x x_scale x_zero_point? y_scale y_zero_point?",
    _softmax_reference,
    _expand_softmax,
    [
        Case((some(k, 2, 3, 5), scale(0.0625), zero(k), scale(2.0**-8), zero(k, first=5)), attrs)
        for k in KINDS
        for attrs in ({"opset": 13}, {"opset": 13, "axis": 1}, {"opset": 12, "axis": 1})
    ],
    {"axis": Attr(int, -1), "opset": Attr(int)},
    check=_check_single,
    dtypes=("uint8",),
    tolerance=0.0,
)


# --- QLinearWhere -----------------------------------------------------------------------------------------------------
def _check_where(call: Call) -> None:
    require_dtype(call, 0, ("bool",))
    for i, z in ((1, 3), (4, 6), (1, 8), (4, 8)):
        require_bytes(call, i, z)
    require_one(call, 2, 3, 5, 6, 7, 8)


def _expand_where(b: Builder, call: Call) -> Value:
    condition, x, sx, zx, y, sy, zy, s, z = call.inputs
    return emit_bytes(
        b, b.add("Where", condition, emit_real(b, x, sx, zx), emit_real(b, y, sy, zy)), s, z, call.dtype(1)
    )


def _where_case(kind: str, *shapes: tuple[int, ...]) -> Case:
    c, x, y = shapes
    return Case(
        (
            *(Tensor(c, dtype="bool"), some(kind, *x), scale(0.25), zero(kind)),
            *(some(kind, *y), scale(0.5), zero(kind, first=9), scale(1.0), zero(kind, first=5)),
        )
    )


composed(
    "QLinearWhere",
    "condition x x_scale x_zero_point y y_scale y_zero_point z_scale z_zero_point",
    lambda c, x, sx, zx, y, sy, zy, s, z: in_bytes(np.where(c, real(x, sx, zx), real(y, sy, zy)), s, z, x.dtype),
    _expand_where,
    [_where_case(k, (7, 9), (7, 9), (7, 9)) for k in KINDS] + [_where_case("uint8", (3, 1), (4,), (2, 1, 4))],
    check=_check_where,
    dtypes=("bool",),
    tolerance=0.0,
)


# --- QLinearConcat ----------------------------------------------------------------------------------------------------
def _check_concat(call: Call) -> None:
    if len(call.inputs) < 5 or len(call.inputs) % 3 != 2:
        raise call.fail(f"has {len(call.inputs)} operands", "give y_scale, y_zero_point, then three for each part")
    require_one(call, 0, 1, *(i + k for i in range(2, len(call.inputs), 3) for k in (1, 2)))
    for i in range(2, len(call.inputs), 3):
        if require_bytes(call, i, i + 2) != call.dtype(1):
            raise call.fail(f"part {i // 3} is {call.dtype(i)}, the result {call.dtype(1)}", "insert a Cast")


def _same_parameters(a: Value, b: Value) -> bool:
    return a is b or (a.is_const and b.is_const and np.array_equal(a.data.reshape(-1), b.data.reshape(-1)))


def _expand_concat(b: Builder, call: Call) -> Value:
    """Parts with the result's scale and zero point are joined as they are."""
    s, z, *rest = call.inputs
    parts = []
    for x, sx, zx in zip(rest[::3], rest[1::3], rest[2::3]):
        kept = _same_parameters(sx, s) and _same_parameters(zx, z)
        parts.append(x if kept else emit_bytes(b, emit_real(b, x, sx, zx), s, z, call.dtype(1)))
    return b.add("Concat", *parts, axis=call.attrs.axis)


def _concat(s, z, *rest, axis):
    parts = [in_bytes(real(*part), s, z, z.dtype) for part in zip(rest[::3], rest[1::3], rest[2::3])]
    return np.concatenate(parts, axis)


composed(
    "QLinearConcat",
    "y_scale y_zero_point *xs",
    _concat,
    _expand_concat,
    [
        Case(
            (
                *(scale(0.5), zero(k, first=5), some(k, 2, 3), scale(0.25), zero(k)),
                *(some(k, 2, 4), scale(0.5), zero(k, first=5), some(k, 2, 1), scale(1.0, 1), zero(k, 1, first=9)),
            ),
            {"axis": axis},
        )
        for k in KINDS
        for axis in (1, -1)
    ],
    {"axis": Attr(int)},
    check=_check_concat,
    dtypes=("uint8",),
    tolerance=0.0,
)

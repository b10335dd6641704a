"""Matrix products and convolutions of bytes with float or byte results, and integer arithmetic beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dtypes import names
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor, get_op
from graphc.ops.contract import require_dtype
from graphc.ops.contrib.affine_bytes import (
    emit_centred,
    require_bytes,
    require_one,
    require_one_or_each,
    scalar,
    scale,
    some,
    zero,
)
from graphc.ops.contrib.channels_last import channels_first, emit_channels_first, require_space
from graphc.ops.contrib.record import composed, operands
from graphc.ops.precision import FLOAT32
from graphc.ops.qlinear import BYTES, check_matmul_parameter, check_zero_point, emit_product
from graphc.ops.quantize import emit_quantized, to_quantized

INT32 = np.dtype(np.int32)
KINDS = ("uint8", "int8")


# --- QLinearConv ------------------------------------------------------------------------------------------------------
_CONV = get_op("QLinearConv")


def _conv_options(attrs) -> dict:
    return {k: v for k, v in attrs.items() if k != "channels_last"}


def _expand_conv(b: Builder, call: Call) -> Value:
    def conv(x: Value) -> Value:
        return b.add("QLinearConv", x, *call.inputs[1:], **_conv_options(call.attrs))

    return emit_channels_first(b, call.inputs[0], call.attrs.channels_last, conv)


def _conv(x, *operands, channels_last, **options):
    return channels_first(x, channels_last, lambda q: _CONV.reference(q, *operands, **options))


def _conv_case(x: tuple[int, ...], w: tuple[int, ...], **attrs) -> Case:
    weights = (some("int8", *w), scale(0.125, w[0]), zero("int8", w[0]))
    ends = (scale(64.0), zero("uint8"), Tensor((w[0],), -999, 999, "int32"))
    return Case((some("uint8", *x), scale(0.25), zero("uint8"), *weights, *ends), attrs)


composed(
    "QLinearConv",
    " ".join(_CONV.inputs),
    _conv,
    _expand_conv,
    [
        _conv_case((1, 3, 6, 7), (4, 3, 3, 3), pads=(1, 1, 1, 1)),
        _conv_case((1, 6, 7, 4), (6, 2, 3, 3), group=2, strides=(2, 1), channels_last=True),
        _conv_case((2, 9, 4), (3, 4, 3), dilations=(2,), channels_last=True),
    ],
    {**_CONV.attrs, "channels_last": Attr(bool, False)},
    check=require_space,
    dtypes=("uint8",),
    tolerance=0.0,
)


# --- products with float results --------------------------------------------------------------------------------------
def _emit_scaled(b: Builder, total: Value, a_scale: Value, b_scale: Value, bias: Value | None) -> Value:
    """total · (a_scale · b_scale) + bias, in float32 or wider; in the scale's dtype."""
    dtype = np.promote_types(FLOAT32, a_scale.dtype)
    factor = b.add("Mul", *(b.add("Cast", s, to=dtype) for s in (scalar(b, a_scale), b_scale)))
    y = b.add("Mul", b.add("Cast", total, to=dtype), factor)
    if bias is not None:
        y = b.add("Add", y, b.add("Cast", bias, to=dtype))
    return b.add("Cast", y, to=a_scale.dtype)


def _scaled(total: np.ndarray, a_scale: np.ndarray, b_scale: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    dtype = np.promote_types(np.float32, a_scale.dtype)
    y = total.astype(dtype) * (a_scale.reshape(()).astype(dtype) * b_scale.astype(dtype))
    return (y if bias is None else y + bias).astype(a_scale.dtype)


def _check_product(call: Call, a: int | None, w: int, w_scale: int, w_zero: int, bias: int) -> None:
    require_bytes(call, w, w_zero)
    for i in (w_scale, w_zero):
        check_matmul_parameter(call, i, w, -1)
    if call.rank(w) < 2:
        raise call.fail(f"'{call.op.inputs[w]}' has shape {call.shape(w)}, not two axes or more")
    require_one_or_each(call, bias, call.shape(w)[-1])


def _check_to_float(call: Call) -> None:
    require_bytes(call, 0, 4)
    require_one(call, 2, 4)
    for i in (2, 3, 6):
        if call.has(i):
            require_dtype(call, i, names("float", bits=range(16, 65)))
            if call.dtype(i) != call.dtype(2):
                raise call.fail(f"the scales are {call.dtype(2)} and {call.dtype(i)}", "insert a Cast")
    _check_product(call, 0, 1, 3, 5, 6)


def _expand_to_float(b: Builder, call: Call) -> Value:
    a, w, sa, sw, za, zw, bias = operands(call, 7)
    return _emit_scaled(b, emit_product(b, a, w, scalar(b, za), zw), sa, sw, bias)


def _exact(a, za, w, zw):
    """Σ (a - za)(w - zw) in float64, in which it is exact."""
    za, zw = (np.zeros(()) if z is None else z.astype(np.float64) for z in (za, zw))
    return np.matmul(a - za.reshape(()), w - zw)


composed(
    "MatMulIntegerToFloat",
    "a b a_scale b_scale a_zero_point? b_zero_point? bias?",
    lambda a, w, sa, sw, za=None, zw=None, bias=None: _scaled(_exact(a, za, w, zw), sa, sw, bias),
    _expand_to_float,
    [
        *(
            Case(
                (some(ka, 3, 4, 16), some(kw, 16, 5), scale(0.25), scale(0.5, 5), zero(ka), zero(kw, 5), Tensor((5,), dtype="float32"))
            )
            for ka in KINDS
            for kw in KINDS
        ),
        Case((some("int8", 4, 16), some("int8", 16, 5), scale(0.25), scale(0.5))),
        Case((some("uint8", 2, 4, 8), some("int8", 2, 8, 3), scale(0.25, 1), scale(0.5, 1), zero("uint8", 1))),
    ],
    check=_check_to_float,
    dtypes=("uint8",),
)  # fmt: skip


def _check_dynamic(call: Call) -> None:
    require_dtype(call, 0, ("float32", "float64"))
    require_dtype(call, 2, ("float32", "float64"))
    _check_product(call, None, 1, 2, 3, 4)


def _expand_dynamic(b: Builder, call: Call) -> Value:
    x, w, sw, zw, bias = operands(call, 5)
    a, sa, za = b.add("DynamicQuantizeLinear", x, outputs=3)
    return _emit_scaled(b, emit_product(b, a, w, za, zw), sa, sw, bias)


def _dynamic(x, w, sw, zw=None, bias=None):
    a, sa, za = get_op("DynamicQuantizeLinear").reference(x)
    return _scaled(_exact(a, za, w, zw), sa, sw, bias)


composed(
    "DynamicQuantizeMatMul",
    "a b b_scale b_zero_point? bias?",
    _dynamic,
    _expand_dynamic,
    [
        *(
            Case((Tensor((3, 4, 16)), some(k, 16, 5), scale(0.5, 5), zero(k, 5), Tensor((5,), dtype="float32")))
            for k in KINDS
        ),
        Case((Tensor((2, 4, 8)), some("int8", 2, 8, 3), scale(0.5))),
        Case((Tensor((3, 8), 0, 0), some("uint8", 8, 3), scale(0.5, 1), zero("uint8", 1))),
    ],
    check=_check_dynamic,
    dtypes=("float32",),
    tolerance=2e-3,  # an element that lies between two steps of 8 bits may round either way
)


# --- QGemm ------------------------------------------------------------------------------------------------------------
def _check_gemm(call: Call) -> None:
    require_bytes(call, 0, 2)
    require_bytes(call, 3, 5)
    require_one(call, 1, 2, 7, 8)
    for i in (0, 3):
        if call.rank(i) != 2:
            raise call.fail(f"'{call.op.inputs[i]}' has shape {call.shape(i)}, not two axes")
    columns = call.shape(3)[0 if call.attrs.transB else 1]
    for i in (4, 5):
        require_one_or_each(call, i, columns)
    if call.has(6):
        require_dtype(call, 6, ("int32",))
        if call.rank(6) > 2:
            raise call.fail(f"'c' has shape {call.shape(6)}, more than two axes")
    if call.has(7) != call.has(8):
        raise call.fail("has one of y_scale and y_zero_point", "give both for bytes, none for floats")
    if call.has(8):
        require_dtype(call, 8, BYTES)


def _expand_gemm(b: Builder, call: Call) -> Value:
    x, sx, zx, w, sw, zw, c, s, z = operands(call, 9)
    x = b.add("Transpose", x, perm=[1, 0]) if call.attrs.transA else x
    w = b.add("Transpose", w, perm=[1, 0]) if call.attrs.transB else w
    total = emit_product(b, x, w, scalar(b, zx), zw)
    total = total if c is None else b.add("Add", total, c)
    dtype = np.promote_types(FLOAT32, sx.dtype)
    factor = b.add("Mul", b.add("Mul", b.constant(call.attrs.alpha, dtype), scalar(b, sx)), sw)
    if s is not None:
        factor = b.add("Div", factor, scalar(b, s))
    y = b.add("Mul", b.add("Cast", total, to=dtype), factor)
    return y if s is None else emit_quantized(b, y, scalar(b, z), z.dtype)


def _gemm(x, sx, zx, w, sw, zw, c=None, s=None, z=None, *, alpha, transA, transB):
    """((A - zA)(B - zB) + C) · alpha · sA · sB, and in bytes where y_scale is given."""
    total = _exact(x.T if transA else x, zx, w.T if transB else w, zw)
    total = total if c is None else total + c
    dtype = np.promote_types(np.float32, sx.dtype)
    factor = dtype.type(alpha) * sx.reshape(()) * sw
    if s is None:
        return total.astype(dtype) * factor
    return to_quantized(total.astype(dtype) * (factor / s.reshape(())), z.reshape(()), z.dtype)


def _gemm_case(
    kx: str = "uint8", kw: str = "int8", bias: tuple[int, ...] | None = (5,), ky: str | None = None, at=(), **attrs: Any
) -> Case:
    x = some(kx, *((8, 3) if attrs.get("transA") else (3, 8)))
    w = some(kw, *((5, 8) if attrs.get("transB") else (8, 5)))
    c = None if bias is None else Tensor(bias, -999, 999, "int32")
    ends = (scale(64.0), zero(ky)) if ky else ()
    return Case((x, scale(0.25), zero(kx), w, scale(0.125, *at), zero(kw, *at), c, *ends), attrs)


composed(
    "QGemm",
    "a a_scale a_zero_point b b_scale b_zero_point c? y_scale? y_zero_point?",
    _gemm,
    _expand_gemm,
    [
        _gemm_case(alpha=0.5),
        _gemm_case(alpha=0.5, ky="uint8"),
        _gemm_case(at=(5,), transB=True),
        _gemm_case("int8", bias=(3, 5), ky="int8", at=(5,), transA=True),
        _gemm_case("uint8", "uint8", None, ky="uint8", transA=True, transB=True),
        _gemm_case(bias=(3, 1)),
        _gemm_case(bias=(1,), ky="uint8"),
    ],
    {"alpha": Attr(float, 1.0), "transA": Attr(bool, False), "transB": Attr(bool, False)},
    check=_check_gemm,
    dtypes=("uint8",),
)


# --- integers ---------------------------------------------------------------------------------------------------------
def _check_words(call: Call) -> None:
    for i in (0, 1):
        require_dtype(call, i, ("int16", "uint16"))


composed(
    "MatMulInteger16",
    "a b",
    lambda a, w: np.matmul(a.astype(np.int64), w.astype(np.int64)).astype(INT32),
    lambda b, call: b.add("MatMul", *(b.add("Cast", v, to=INT32) for v in call.inputs)),
    [
        Case((some("int16", 3, 4), some("int16", 4, 2))),
        Case((some("int16", 2, 3, 4), some("uint16", 4, 2))),
        Case((some("uint16", 3, 4), some("uint16", 4, 2))),
    ],
    check=_check_words,
    dtypes=("int16",),
    tolerance=0.0,
)


def _check_mul(call: Call) -> None:
    for i in (0, 2):
        require_dtype(call, i, BYTES)
        check_zero_point(call, i + 1, i)
    require_one(call, 1, 3)


def _expand_mul(b: Builder, call: Call) -> Value:
    x, zx, y, zy = operands(call, 4)
    return b.add("Mul", *(emit_centred(b, v, scalar(b, z), INT32) for v, z in ((x, zx), (y, zy))))


def _mul(x, zx, y, zy=None):
    centred = [v.astype(np.int32) - (0 if z is None else z.reshape(()).astype(np.int32)) for v, z in ((x, zx), (y, zy))]
    return centred[0] * centred[1]


composed(
    "MulInteger",
    "a a_zero_point? b b_zero_point?",
    _mul,
    _expand_mul,
    [Case((some(k, 3, 4), zero(k), some(k, 4), zero(k))) for k in KINDS]
    + [Case((some("uint8", 3), None, some("uint8", 3)))],
    check=_check_mul,
    dtypes=("uint8",),
    tolerance=0.0,
)


def _check_sum(call: Call) -> None:
    require_dtype(call, 0, BYTES)


def _expand_sum(b: Builder, call: Call) -> Value:
    to = np.uint32 if call.dtype(0).kind == "u" else np.int32
    axes = b.constant(call.attrs.axes, np.int64)
    return b.add("ReduceSum", b.add("Cast", call.inputs[0], to=to), axes, keepdims=call.attrs.keepdims)


composed(
    "ReduceSumInteger",
    "x",
    lambda x, axes, keepdims: x.sum(axes, np.uint32 if x.dtype.kind == "u" else np.int32, keepdims=keepdims),
    _expand_sum,
    [Case((some(k, 3, 4, 5),), {"axes": (1, -1), "keepdims": n}) for n, k in enumerate(KINDS)],
    {"axes": Attr("ints"), "keepdims": Attr(bool)},
    check=_check_sum,
    dtypes=("uint8",),
    tolerance=0.0,
)

"""Matrix products and convolutions of 8-bit integers, with integer or requantized results."""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from graphc.dtypes import is_float, names
from graphc.op import Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.byte_conv import emit_integer_conv
from graphc.ops.contract import FLOAT_NAMES, differ, matmul_macs, matmul_shape, operand_name, require_dtype
from graphc.ops.qproduct import INT32, emit_integer_product
from graphc.ops.quantize import FLOAT8, emit_quantized, to_quantized
from graphc.ops.window import CONV_ATTRS, conv, conv_macs, conv_shape
from graphc.types import TensorType, may_be, prod

BYTES = names("int", "uint", bits=(8,))
SCALES = FLOAT_NAMES


def check_zero_point(call: Call, i: int, of: int) -> None:
    if call.has(i) and call.dtype(i) != call.dtype(of):
        of_name, name = call.op.inputs[of], operand_name(call, i)
        raise call.fail(f"'{of_name}' is {call.dtype(of)}, its zero point '{name}' is {call.dtype(i)}", "insert a Cast")


def _centred(x: np.ndarray, zero: np.ndarray | None) -> np.ndarray:
    """x - zero in float64, in which sums of products of bytes are exact."""
    return x.astype(np.float64) if zero is None else x.astype(np.float64) - zero.astype(np.float64)


def _wrapped(total: np.ndarray) -> np.ndarray:
    """Whole numbers in float64 as int32, modulo 2^32, as sums of kernels."""
    return np.asarray(total).astype(np.int64).astype(INT32)


def _emit_centred(b, x, zero, dtype):
    x = b.add("Cast", x, to=dtype)
    return x if zero is None else b.add("Sub", x, b.add("Cast", zero, to=dtype))


def check_matmul_parameter(call: Call, i: int, of: int, axis: int) -> None:
    """Raises TypeRuleError unless a scale or zero point is a number, or has one for each index of an axis of its matrix."""
    if not call.has(i):
        return
    s, x = call.shape(i), call.shape(of)
    single = all(may_be(d, 1) for d in s)
    vector = len(s) == 1 and len(x) > 1 and not differ(s[0], x[axis])
    full = len(s) == len(x) > 1 and not any(d != 1 and differ(d, n) for d, n in zip(s, x))
    if not single and not vector and not (full and may_be(s[-3 - axis], 1)):
        raise call.fail(
            f"'{operand_name(call, i)}' has shape {s}",
            f"give one number, or one for each {'row' if axis == -2 else 'column'} of '{operand_name(call, of)}' {x}",
        )


# --- matrix products --------------------------------------------------------------------------------------------------
@overload
def _rows(s: np.ndarray) -> np.ndarray: ...


@overload
def _rows(s: None) -> None: ...


def _rows(s: np.ndarray | None) -> np.ndarray | None:
    """A scale or zero point of the left operand: one entry per row where it is a vector."""
    return s[:, None] if s is not None and s.ndim == 1 and s.size != 1 else s


def _emit_rows(b, s):
    if s is None or len(s.shape) != 1 or s.shape == (1,):
        return s
    return b.add("Unsqueeze", s, b.constant([1], np.int64))


def _matmul_integer_infer(call: Call) -> list[TensorType]:
    for i, zero, axis in ((0, 2, -2), (1, 3, -1)):
        require_dtype(call, i, BYTES)
        check_zero_point(call, zero, i)
        check_matmul_parameter(call, zero, i, axis)
    return [TensorType(INT32, matmul_shape(call, call.shape(0), call.shape(1)))]


def _matmul_integer_expand(b, call: Call):
    a, w, a_zero, w_zero = (*call.inputs, None, None)[:4]
    return emit_product(b, a, w, _emit_rows(b, a_zero), w_zero)


def emit_product(b, a, w, a_zero, w_zero):
    """The int32 product; sizes that are not known yet, and matrices of nothing, are left to a plain one."""
    if all(isinstance(d, int) and d > 0 for d in (*a.type.shape[-1:], *w.type.shape)):
        return emit_integer_product(b, a, w, a_zero, w_zero)
    return b.add("MatMul", _emit_centred(b, a, a_zero, INT32), _emit_centred(b, w, w_zero, INT32))


def _bytes(dtype: str, *shape: int) -> Tensor:
    info = np.iinfo(dtype)
    return Tensor(shape, info.min, info.max, dtype)


def _zero(dtype: str, *shape: int) -> Const:
    values = [3, 0, 100, 7] if dtype[0] == "u" else [-3, 0, 100, 7]
    return Const(np.resize(values, int(np.prod(shape))).reshape(shape).tolist(), dtype)


register(
    Op(
        "MatMulInteger",
        ("a", "b", "a_zero_point?", "b_zero_point?"),
        _matmul_integer_infer,
        lambda a, b, za=None, zb=None: _wrapped(np.matmul(_centred(a, _rows(za)), _centred(b, zb))),
        expand=_matmul_integer_expand,
        macs=matmul_macs,
        samples=Samples(
            ("uint8",),
            cases=(
                Case((_bytes("uint8", 5, 7), _bytes("uint8", 7, 3))),
                Case((_bytes("uint8", 5, 7), _bytes("int8", 7, 3), _zero("uint8"), _zero("int8"))),
                Case((_bytes("uint8", 5, 67), _bytes("int8", 67, 3), _zero("uint8", 1), _zero("int8", 3))),
                Case((_bytes("int8", 4, 7), _bytes("int8", 7, 3), _zero("int8", 4), _zero("int8", 3))),
                Case((_bytes("int8", 2, 4, 7), _bytes("int8", 2, 7, 3), _zero("int8", 2, 4, 1), _zero("int8"))),
                Case((_bytes("uint8", 13), _bytes("uint8", 13), _zero("uint8"))),
            ),
        ),
        family=Family.CONTRACTION,
    )
)


def _qlinear_matmul_infer(call: Call) -> list[TensorType]:
    for i, zero, axis in ((0, 2, -2), (3, 5, -1)):
        require_dtype(call, i, (*BYTES, *FLOAT8))
        check_zero_point(call, zero, i)
        for parameter in (i + 1, zero):
            check_matmul_parameter(call, parameter, i, axis)
    for i in (1, 4, 6):
        require_dtype(call, i, SCALES)
    return [TensorType(require_dtype(call, 7, (*BYTES, *FLOAT8)), matmul_shape(call, call.shape(0), call.shape(3)))]


def _qlinear_matmul_reference(a, a_scale, a_zero, w, w_scale, w_zero, y_scale, y_zero):
    """round(Σ(a - zero)(b - zero) · (a_scale · b_scale / y_scale)) + zero, saturated; scales in float32 or wider."""
    wide = np.promote_types(np.float32, a_scale.dtype) if a_scale.dtype.kind == "f" else np.float32
    total = np.matmul(_centred(a, _rows(a_zero)), _centred(w, w_zero)).astype(wide)
    factor = _rows(a_scale).astype(wide) * w_scale.astype(wide) / y_scale.astype(wide)
    return to_quantized(total * factor, y_zero, y_zero.dtype)


def _qlinear_matmul_expand(b, call: Call):
    """An int32 MatMul, scaled and requantized; None for 8-bit floats."""
    a, a_scale, a_zero, w, w_scale, w_zero, y_scale, y_zero = call.inputs
    if any(is_float(call.dtype(i)) for i in (0, 3, 7)):
        return None
    factor = _emit_factor(b, _emit_rows(b, a_scale), w_scale, y_scale)
    total = b.add("Cast", emit_product(b, a, w, _emit_rows(b, a_zero), w_zero), to=factor.dtype)
    return emit_quantized(b, b.add("Mul", total, factor), y_zero, call.dtype(7))


def _emit_factor(b, x_scale, w_scale, y_scale):
    wide = np.float64 if x_scale.dtype == np.float64 else np.float32
    x_scale, w_scale, y_scale = (b.add("Cast", s, to=wide) for s in (x_scale, w_scale, y_scale))
    return b.add("Div", b.add("Mul", x_scale, w_scale), y_scale)


def _scale(value: float, *shape: int) -> Const:
    n = int(np.prod(shape))
    return Const((value * 2.0 ** -(np.arange(n) % 3)).reshape(shape).tolist(), "float32")


def _qlinear_matmul_cases() -> tuple[Case, ...]:
    def case(a, b, a_at=(), b_at=(), kinds=("uint8", "int8", "uint8")):
        ka, kb, ky = kinds
        left = (_bytes(ka, *a), _scale(0.25, *a_at), _zero(ka, *a_at))
        right = (_bytes(kb, *b), _scale(0.125, *b_at), _zero(kb, *b_at))
        return Case((*left, *right, _scale(64.0), _zero(ky)))

    return (
        case((5, 7), (7, 3)),
        case((5, 7), (7, 3), kinds=("uint8", "uint8", "uint8")),
        case((2, 5, 17), (2, 17, 3), kinds=("int8", "int8", "int8")),
        case((5, 7), (7, 3), b_at=(3,)),
        case((5, 7), (7, 3), a_at=(5,), b_at=(3,), kinds=("int8", "int8", "int8")),
    )


register(
    Op(
        "QLinearMatMul",
        ("a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "y_scale", "y_zero_point"),
        _qlinear_matmul_infer,
        _qlinear_matmul_reference,
        expand=_qlinear_matmul_expand,
        macs=lambda call: prod((*call.op.infer(call)[0].shape, call.shape(0)[-1])),
        tolerance=0.0,
        samples=Samples(("uint8",), cases=_qlinear_matmul_cases()),
        family=Family.CONTRACTION,
    )
)


# --- convolutions -----------------------------------------------------------------------------------------------------
def _channels(s: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """A scale or zero point, one or one per output channel, shaped for the weights (axis 0) or the result (axis 1)."""
    return s.reshape(()) if s.size == 1 else s.reshape([-1 if k == axis else 1 for k in range(rank)])


def _emit_channels(b, s, rank: int, axis: int):
    if s is None or s.shape in ((), (1,)):
        return s
    return b.add("Reshape", s, b.constant([-1 if k == axis else 1 for k in range(rank)], np.int64))


def _check_channels(call: Call, i: int, channels) -> None:
    if call.has(i) and call.shape(i) not in ((), (1,)) and (call.rank(i) != 1 or differ(call.shape(i)[0], channels)):
        name = operand_name(call, i)
        raise call.fail(
            f"'{name}' has shape {call.shape(i)}", f"give one number, or one for each of {channels} channels"
        )


def _conv_integer_infer(call: Call) -> list[TensorType]:
    for i, zero in ((0, 2), (1, 3)):
        require_dtype(call, i, BYTES)
        check_zero_point(call, zero, i)
    _check_channels(call, 3, call.shape(1)[0])
    return [TensorType(INT32, conv_shape(call))]


def _conv_integer_reference(x, w, x_zero=None, w_zero=None, **attrs):
    w_zero = None if w_zero is None else _channels(w_zero, w.ndim, 0)
    return _wrapped(conv(_centred(x, x_zero), _centred(w, w_zero), None, **attrs))


def _conv_integer_expand(b, call: Call):
    x, w, x_zero, w_zero = (*call.inputs, None, None)[:4]
    assert x is not None and w is not None
    return emit_integer_conv(b, call, x, x_zero, w, w_zero)


_CONV_USES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 3, 13, 13), (5, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 6, 7, 13), (4, 3, 3, 2), {"group": 2, "strides": (2, 1), "pads": (0, 1, 1, 0)}),
    ((1, 9, 7, 7), (9, 1, 3, 3), {"group": 9, "auto_pad": "SAME_UPPER", "strides": (2, 2)}),
    ((1, 19, 5, 5), (17, 19, 1, 1), {}),
    ((1, 4, 17), (6, 4, 3), {"dilations": (2,)}),
)


def _conv_integer_cases() -> tuple[Case, ...]:
    plain = [Case((_bytes("uint8", *x), _bytes("uint8", *w)), attrs) for x, w, attrs in _CONV_USES[:1]]
    return (
        *plain,
        *(Case((_bytes("uint8", *x), _bytes("uint8", *w), _zero("uint8")), attrs) for x, w, attrs in _CONV_USES),
        *(
            Case((_bytes("int8", *x), _bytes("int8", *w), _zero("int8"), _zero("int8", w[0])), attrs)
            for x, w, attrs in _CONV_USES[1:3]
        ),
    )


register(
    Op(
        "ConvInteger",
        ("x", "w", "x_zero_point?", "w_zero_point?"),
        _conv_integer_infer,
        _conv_integer_reference,
        CONV_ATTRS,
        expand=_conv_integer_expand,
        macs=conv_macs,
        samples=Samples(("uint8",), cases=_conv_integer_cases()),
        windowed=True,
    )
)


def _qlinear_conv_infer(call: Call) -> list[TensorType]:
    for i, zero in ((0, 2), (3, 5)):
        require_dtype(call, i, BYTES)
        check_zero_point(call, zero, i)
    for i in (1, 4, 6):
        require_dtype(call, i, SCALES)
    for i in (4, 5):
        _check_channels(call, i, call.shape(3)[0])
    if call.has(8):
        require_dtype(call, 8, ("int32",))
    return [TensorType(require_dtype(call, 7, BYTES), conv_shape(call))]


def _qlinear_conv_reference(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b=None, **attrs):
    """round((conv(x - zero, w - zero) + b) · (x_scale · w_scale / y_scale)) + zero, saturated."""
    wide = np.promote_types(np.float32, x_scale.dtype)
    weights = _centred(w, _channels(w_zero, w.ndim, 0))
    total = conv(_centred(x, x_zero), weights, None if b is None else b.astype(np.float64), **attrs)
    factor = x_scale.astype(wide) * _channels(w_scale, x.ndim, 1).astype(wide) / y_scale.astype(wide)
    return to_quantized(total.astype(wide) * factor, y_zero, y_zero.dtype)


def _qlinear_conv_expand(b, call: Call):
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (*call.inputs, None)[:9]
    factor = _emit_factor(b, x_scale, _emit_channels(b, w_scale, call.rank(0), 1), y_scale)
    assert x is not None and w is not None
    total = emit_integer_conv(b, call, x, x_zero, w, w_zero)
    if bias is not None:
        total = b.add("Add", total, _emit_channels(b, bias, call.rank(0), 1))
    total = b.add("Cast", total, to=factor.dtype)
    return _emit_quantized_bytes(b, b.add("Mul", total, factor), y_zero, call.dtype(7))


def _emit_quantized_bytes(b, q, zero, dtype):
    """As `emit_quantized`; signed bytes as unsigned ones, which the next convolution reads, moved by 128."""
    if dtype != np.int8 or not zero.is_const:
        return emit_quantized(b, q, zero, dtype)
    moved = b.constant((zero.data.astype(np.int16) + 128).astype(np.uint8))
    codes = emit_quantized(b, q, moved, moved.dtype)
    return b.add("BitCast", b.add("BitwiseXor", codes, b.constant(128, np.uint8)), to=dtype)


def _qlinear_conv_cases() -> tuple[Case, ...]:
    def case(x, w, attrs, kinds=("uint8", "uint8", "uint8"), by_channel=False, bias=False):
        kx, kw, ky = kinds
        at = (w[0],) if by_channel else ()
        operands = (
            *(_bytes(kx, *x), _scale(0.25), _zero(kx), _bytes(kw, *w), _scale(0.125, *at), _zero(kw, *at)),
            *(_scale(64.0), _zero(ky), *((Tensor((w[0],), -999, 999, "int32"),) if bias else ())),
        )
        return Case(operands, attrs)

    mixed = ("uint8", "int8", "uint8")
    return (
        *(case(x, w, attrs) for x, w, attrs in _CONV_USES),
        *(case(x, w, attrs, mixed, bias=True) for x, w, attrs in _CONV_USES[:2]),
        *(case(x, w, attrs, ("int8",) * 3, True, True) for x, w, attrs in _CONV_USES[2:4]),
    )


register(
    Op(
        "QLinearConv",
        ("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "b?"),
        _qlinear_conv_infer,
        _qlinear_conv_reference,
        CONV_ATTRS,
        expand=_qlinear_conv_expand,
        macs=conv_macs,
        tolerance=0.0,
        samples=Samples(("uint8",), cases=_qlinear_conv_cases()),
        windowed=True,
    )
)

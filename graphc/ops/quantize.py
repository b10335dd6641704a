"""Linear quantization: floats to small integers or 8-bit floats and back."""

from __future__ import annotations

import numpy as np

from graphc.dtypes import SUB_BYTE, int_range, is_float, is_narrow, is_signed, names
from graphc.op import Attr, Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops.cast import cast_array
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype
from graphc.types import Shape, TensorType, dtype_name, may_be, number

FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")  # the ones of ONNX with a sign
QUANTIZED = (
    *names("int", "uint", bits=(8, 16)),
    *names("int", "uint", bits=SUB_BYTE),
    *FLOAT8,
    *names("float", bits=SUB_BYTE),
)
SCALES = (*FLOAT_NAMES, "int32", "float8_e8m0fnu")
UINT8 = np.dtype(np.uint8)


def to_quantized(q: np.ndarray, zero: np.ndarray | None, target: np.dtype, saturate: bool = True) -> np.ndarray:
    """saturate(round(q) + zero) for an integer target, halves to the even, NaN to the lowest; q + zero converted for a float one."""
    offset = 0 if zero is None else zero.astype(np.float32)
    if is_float(target):
        return cast_array(q + offset, target, saturate)
    wide = np.rint(q).astype(np.promote_types(np.float32, q.dtype) if q.dtype.kind == "f" else np.float32)
    low, high = int_range(target)
    return np.nan_to_num(np.clip(wide + offset, low, high), nan=low).astype(np.int32).astype(target)


def emit_quantized(b, q, zero, target: np.dtype, saturate: bool = True):
    """`to_quantized` in other operators, for a float32 or float64 value q and the aligned zero point (or None)."""
    if not is_float(target):
        q = b.add("Round", q)
    if zero is not None:
        q = b.add("Add", q, b.add("Cast", zero, to=q.dtype))
    if is_float(target):
        return b.add("Cast", q, to=target, saturate=saturate)
    low, high = (b.constant(limit, q.dtype) for limit in int_range(target))
    if not is_signed(target):  # a Cast of NaN is 0, the lowest
        return b.add("Cast", b.add("Clip", q, low, high), to=target)
    return b.add("Cast", b.add("Min", b.add("Where", b.add("Greater", q, low), q, low), high), to=target)


# --- granularity: one scale, one per index of an axis, or one per block along an axis --------------------------------
def _check_granularity(call: Call) -> None:
    """Raises TypeRuleError unless scale (operand 1) and zero point (operand 2) fit x, axis and block_size."""
    x, scale = call.shape(0), call.shape(1)
    single = ((), (1,))
    if call.has(2) and not all(s in single or len(s) == 1 and may_be(s[0], 1) for s in (scale, call.shape(2))):
        zero = call.shape(2)
        if len(zero) != len(scale) or any(differ(a, b) for a, b in zip(zero, scale)):
            raise call.fail(f"the zero point has shape {zero}, the scale {scale}", "give both the same shape")
    if call.attrs.block_size < 0:
        raise call.fail(f"block_size is {call.attrs.block_size}", "use a positive size, or 0 for no blocks")
    if call.attrs.block_size:
        axis = call.axis_of(call.attrs.axis, len(x))
        blocks = -(-x[axis] // call.attrs.block_size) if isinstance(x[axis], int) else x[axis]
        want = (*x[:axis], blocks, *x[axis + 1 :])
        if len(scale) != len(x) or any(differ(a, b) for a, b in zip(scale, want)):
            hint = f"x {x} in blocks of {call.attrs.block_size} along axis {axis} needs scales of shape {want}"
            raise call.fail(f"the scale has shape {scale}", hint)
    elif len(scale) > 1:
        raise call.fail(
            f"the scale has shape {scale}", "give one number, one for each index of axis, or set block_size"
        )
    elif scale not in single:
        axis = _scale_axis(call, len(x))
        if differ(scale[0], x[axis]):
            raise call.fail(
                f"the scale has {scale[0]} entries, axis {axis} of x {x} has {x[axis]}", "check the attribute axis"
            )


def _scale_axis(call: Call, rank: int) -> int:
    return 0 if rank == 1 else call.axis_of(call.attrs.axis, rank)


def aligned(s: np.ndarray, shape: Shape, axis: int, block: int) -> np.ndarray:
    """A scale or zero point in a shape that broadcasts against x."""
    if block:
        return np.repeat(s, block, axis).take(range(number(shape[axis])), axis)
    if s.size == 1:
        return s.reshape(())
    return s.reshape([-1 if k == axis % len(shape) or len(shape) == 1 else 1 for k in range(len(shape))])


def _emit_aligned(b, call: Call, i: int):
    """Operand i (scale or zero point; None if absent) reshaped to broadcast against `_emit_split` of x."""
    if not call.has(i):
        return None
    s, rank = call.inputs[i], call.rank(0)
    if call.attrs.block_size:
        return _emit_spread(b, call, s)
    if call.rank(i) == 0 or (call.shape(i) == (1,) and rank > 0) or rank == 1:
        call.attrs.ignore("axis")
        return s
    axis = call.axis_of(call.attrs.axis, rank) if rank else None
    return b.add("Reshape", s, b.constant([-1 if k == axis else 1 for k in range(rank)], np.int64))


def _whole_blocks(call: Call) -> bool:
    """Are there blocks, and is the last of them as long as the others?"""
    if not call.attrs.block_size:
        return False
    axis = call.axis_of(call.attrs.axis, call.rank(0))
    return call.shape(0)[axis] % call.attrs.block_size == 0


def _emit_spread(b, call: Call, s):
    """A number for each block: an axis of one beside it, or where the last block is not whole as many of it as x has elements."""
    axis, block, shape = call.axis_of(call.attrs.axis, call.rank(0)), call.attrs.block_size, call.shape(0)
    s, after = b.add("Unsqueeze", s, b.constant([axis + 1], np.int64)), shape[axis + 1 :]
    if _whole_blocks(call):
        return s
    blocks = -(-shape[axis] // block)
    s = b.add("Expand", s, b.constant([*shape[:axis], blocks, block, *after], np.int64))
    s = b.add("Reshape", s, b.constant([*shape[:axis], blocks * block, *after], np.int64), allowzero=True)
    return b.add("Slice", s, *(b.constant([n], np.int64) for n in (0, shape[axis], axis)))


def _emit_split(b, call: Call):
    """x; of blocks that are all whole, with an axis for them and one for what is in them."""
    x, block, shape = call.inputs[0], call.attrs.block_size, call.shape(0)
    if not _whole_blocks(call):
        return x
    axis = call.axis_of(call.attrs.axis, call.rank(0))
    parts = [*shape[:axis], shape[axis] // block, block, *shape[axis + 1 :]]
    return b.add("Reshape", x, b.constant(parts, np.int64), allowzero=True)


def _emit_joined(b, call: Call, y):
    """The inverse."""
    return b.add("Reshape", y, b.constant(call.shape(0), np.int64), allowzero=True) if _whole_blocks(call) else y


# --- QuantizeLinear ---------------------------------------------------------------------------------------------------
def _quantize_target(call: Call) -> np.dtype:
    zero = call.dtype(2) if call.has(2) else None
    if call.attrs.output_dtype is not None and zero is not None and call.attrs.output_dtype != zero:
        raise call.fail(f"output_dtype is {dtype_name(call.attrs.output_dtype)}, the zero point is {dtype_name(zero)}")
    target = call.attrs.output_dtype or zero or UINT8
    if target.name not in QUANTIZED:
        raise call.fail(f"can't quantize to {dtype_name(target)}", f"one of: {', '.join(QUANTIZED)}")
    return target


def _quantize_infer(call: Call) -> list[TensorType]:
    require_dtype(call, 0, (*FLOAT_NAMES, "int32"))
    require_dtype(call, 1, SCALES)
    _check_granularity(call)
    return [TensorType(_quantize_target(call), call.shape(0))]


def _division_dtype(x: np.dtype, scale: np.dtype, precision: np.dtype | None) -> np.dtype:
    if np.dtype(np.float64) in (x, scale):
        return np.dtype(np.float64)
    dtype = precision or scale
    return dtype if dtype.name in FLOAT_NAMES else np.dtype(np.float32)


def _quantize_reference(x, scale, zero=None, *, axis, block_size, output_dtype, precision, saturate):
    """saturate(round(x / scale) + zero), the division in `precision` or else in the scale's dtype."""
    target = output_dtype or (UINT8 if zero is None else zero.dtype)
    dtype = _division_dtype(x.dtype, scale.dtype, precision)
    quotient = x.astype(dtype) / aligned(scale, x.shape, axis, block_size).astype(dtype)
    quotient = quotient.astype(np.float32) if is_narrow(dtype) else quotient
    return to_quantized(quotient, None if zero is None else aligned(zero, x.shape, axis, block_size), target, saturate)


def _quantize_expand(b, call: Call):
    """Div, Round, Add, Clip and Cast; None for scales by block of what has no known shape."""
    if call.attrs.block_size and not call.type(0).is_static:
        return None
    dtype = _division_dtype(call.dtype(0), call.dtype(1), call.attrs.precision)
    x, scale = (b.add("Cast", v, to=dtype) for v in (_emit_split(b, call), _emit_aligned(b, call, 1)))
    q = b.add("Div", x, scale)
    q = b.add("Cast", q, to=np.float32) if is_narrow(dtype) else q
    q = emit_quantized(b, q, _emit_aligned(b, call, 2), _quantize_target(call), call.attrs.saturate)
    return _emit_joined(b, call, q)


_BLOCKS = {"axis": Attr(int, 1), "block_size": Attr(int, 0)}


def _scales(*shape: int) -> Const:
    """Powers of two, so that a quotient is the same in every precision."""
    n = int(np.prod(shape))
    return Const((2.0 ** (np.arange(n) % 4 - 3)).reshape(shape).tolist(), "float32")


def _zeros(dtype: str, *shape: int) -> Const:
    low, high = int_range(np.dtype(dtype))
    n = int(np.prod(shape))
    return Const(np.resize([0, 3, high // 3, low // 5], n).reshape(shape).tolist(), dtype)


def _quantize_cases() -> tuple[Case, ...]:
    x = Tensor((2, 3, 5))
    return (
        Case((x, _scales())),
        Case((x, _scales(), _zeros("int8"))),
        Case((x, _scales(1), _zeros("uint8", 1))),
        Case((x, _scales(), _zeros("uint8", 1))),
        Case((Tensor((3, 7), -999, 999), _scales(), _zeros("uint8"))),
        Case((Tensor((3, 7), -9e4, 9e4), _scales(), _zeros("int16"))),
        Case((x, _scales(3), _zeros("uint8", 3))),
        Case((x, _scales(5), _zeros("int8", 5)), {"axis": -1}),
        Case((Tensor((4,)), _scales(4), _zeros("int8", 4)), {"axis": 0}),
        Case((x, _scales(2, 2, 5), _zeros("int8", 2, 2, 5)), {"axis": 1, "block_size": 2}),
        Case((x, _scales(2, 3, 2)), {"axis": 2, "block_size": 3, "output_dtype": "int16"}),
        Case((Tensor((2, 6)), _scales(2, 2), _zeros("uint8", 2, 2)), {"axis": -1, "block_size": 3}),
        Case((x, _scales()), {"output_dtype": "uint16"}),
        Case((Tensor(()), _scales())),
        Case((Tensor((3, 4), -300, 300, "int32"), _scales(), _zeros("int8"))),
    )


register(
    Op(
        "QuantizeLinear",
        ("x", "y_scale", "y_zero_point?"),
        _quantize_infer,
        _quantize_reference,
        {
            **_BLOCKS,
            "output_dtype": Attr("dtype", None),
            "precision": Attr("dtype", None),
            "saturate": Attr(bool, True),
        },
        expand=_quantize_expand,
        tolerance=0.0,
        samples=Samples(("float32",), cases=_quantize_cases()),
    )
)


# --- DequantizeLinear -------------------------------------------------------------------------------------------------
def _dequantize_infer(call: Call) -> list[TensorType]:
    x, scale = require_dtype(call, 0, (*QUANTIZED, "int32")), require_dtype(call, 1, SCALES)
    if call.has(2) and call.dtype(2) != x:
        raise call.fail(f"x is {dtype_name(x)}, its zero point is {dtype_name(call.dtype(2))}", "insert a Cast")
    _check_granularity(call)
    result = call.attrs.output_dtype or scale
    if result.name not in FLOAT_NAMES:
        raise call.fail(f"the result would be {dtype_name(result)}", f"set output_dtype to one of {FLOAT_NAMES}")
    return [TensorType(result, call.shape(0))]


def _dequantize_reference(x, scale, zero=None, *, axis, block_size, output_dtype):
    """(x - zero) · scale, computed in float32 or wider and rounded once."""
    wide = np.float64 if scale.dtype == np.float64 else np.float32
    if zero is None:
        centred = x.astype(wide)
    else:
        centred = x.astype(wide) - aligned(zero, x.shape, axis, block_size).astype(wide)
    return (centred * aligned(scale, x.shape, axis, block_size).astype(wide)).astype(output_dtype or scale.dtype)


def _dequantize_expand(b, call: Call):
    """Cast, Sub and Mul; None for scales by block of what has no known shape."""
    if call.attrs.block_size and not call.type(0).is_static:
        return None
    result = call.attrs.output_dtype or call.dtype(1)
    wide = np.dtype(np.float64 if call.dtype(1) == np.float64 else np.float32)
    x, scale, zero = _emit_split(b, call), _emit_aligned(b, call, 1), _emit_aligned(b, call, 2)
    y = b.add("Cast", x, to=wide)
    if zero is not None:
        y = b.add("Sub", y, b.add("Cast", zero, to=wide))
    return _emit_joined(b, call, b.add("Cast", b.add("Mul", y, b.add("Cast", scale, to=wide)), to=result))


def _dequantize_cases() -> tuple[Case, ...]:
    def x(dtype: str, *shape: int) -> Tensor:
        low, high = int_range(np.dtype(dtype))
        return Tensor(shape, low, high, dtype)

    return (
        Case((x("uint8", 2, 3, 5), _scales(), _zeros("uint8"))),
        Case((x("int8", 2, 3, 5), _scales())),
        Case((x("int8", 2, 3, 5), _scales(3), _zeros("int8", 3))),
        Case((x("uint8", 7, 3), _scales(7), _zeros("uint8", 7)), {"axis": -2}),
        Case((x("int16", 4), _scales(4), _zeros("int16", 4)), {"axis": 0}),
        Case((Tensor((3, 4), -999, 999, "int32"), _scales(1))),
        Case((x("uint16", 3, 4), Const(0.25, "float32"), _zeros("uint16")), {"output_dtype": "float32"}),
        Case((x("int8", 2, 3, 5), _scales(2, 3, 3), _zeros("int8", 2, 3, 3)), {"axis": 2, "block_size": 2}),
        Case((x("uint8", 4, 3), _scales(2, 3), _zeros("uint8", 2, 3)), {"axis": 0, "block_size": 2}),
    )


register(
    Op(
        "DequantizeLinear",
        ("x", "x_scale", "x_zero_point?"),
        _dequantize_infer,
        _dequantize_reference,
        {**_BLOCKS, "output_dtype": Attr("dtype", None)},
        expand=_dequantize_expand,
        samples=Samples(("int8",), cases=_dequantize_cases()),
    )
)


# --- DynamicQuantizeLinear --------------------------------------------------------------------------------------------
def _dynamic_infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, ("float32", "float64"))
    return [TensorType(UINT8, call.shape(0)), TensorType(dtype, ()), TensorType(UINT8, ())]


def _dynamic_reference(x):
    """Scale and zero point that spread the range of x, widened to hold 0, over 0 … 255; the scale of all zeros is 1."""
    low, high = min(x.min(initial=0), 0), max(x.max(initial=0), 0)
    scale = np.asarray((high - low) / x.dtype.type(255) if high > low else 1, x.dtype)
    zero = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
    return to_quantized(x / scale, zero, UINT8), scale, np.asarray(zero)


def _dynamic_expand(b, call: Call):
    x, dtype = call.inputs[0], call.dtype(0)
    nothing, one, steps = (b.constant(v, dtype) for v in (0, 1, 255))
    low = b.add("Min", b.add("ReduceMin", x, keepdims=False), nothing)
    high = b.add("Max", b.add("ReduceMax", x, keepdims=False), nothing)
    spread = b.add("Sub", high, low)
    scale = b.add("Where", b.add("Greater", spread, nothing), b.add("Div", spread, steps), one)
    zero = emit_quantized(b, b.add("Div", b.add("Neg", low), scale), None, UINT8)
    return (b.add("QuantizeLinear", x, scale, zero), scale, zero)[: call.n_outputs]


register(
    Op(
        "DynamicQuantizeLinear",
        ("x",),
        _dynamic_infer,
        _dynamic_reference,
        {},
        ("y", "y_scale", "y_zero_point"),
        expand=_dynamic_expand,
        samples=Samples(
            ("float32",),
            cases=(
                Case((Tensor((2, 3, 5)),), n_outputs=3),
                Case((Tensor((7,), 1, 4),), n_outputs=3),
                Case((Tensor((7,), -4, -1),), n_outputs=3),
                Case((Tensor((7,), 0, 0),), n_outputs=3),
            ),
        ),
    )
)

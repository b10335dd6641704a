"""Operators of QONNX, which Brevitas writes: floats that are rounded to integers of any width, and scaled back.

Source of the formulas: the package qonnx 1.0, `qonnx.custom_op.general`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import differ, require_same_dtype
from graphc.ops.contrib.record import composed
from graphc.ops.elementwise import require_broadcasts_to_first
from graphc.ops.precision import FLOATING, in_float32

DOMAIN = "qonnx.custom_op.general"


# --- rounding ---------------------------------------------------------------------------------------------------------
def _of_size(function: Callable[[Builder, Value], Value]) -> Callable[[Builder, Value], Value]:
    """The function of |x|, with x's sign."""
    return lambda b, x: b.add("Mul", b.add("Sign", x), function(b, b.add("Abs", x)))


def _moved(op: str, by: float) -> Callable[[Builder, Value], Value]:
    return _of_size(lambda b, x: b.add(op, b.add("Add", x, b.constant(by, x.dtype))))


_EMIT: dict[str, Callable[[Builder, Value], Value]] = {
    "ROUND": lambda b, x: b.add("Round", x),
    "HALF_EVEN": lambda b, x: b.add("Round", x),
    "CEIL": lambda b, x: b.add("Ceil", x),
    "FLOOR": lambda b, x: b.add("Floor", x),
    "UP": _of_size(lambda b, x: b.add("Ceil", x)),
    "DOWN": _of_size(lambda b, x: b.add("Floor", x)),
    "HALF_UP": _moved("Floor", 0.5),
    "HALF_DOWN": _moved("Ceil", -0.5),
}
_ROUND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.where(x < 0, np.floor(x), np.ceil(x)),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
    "HALF_DOWN": lambda x: np.copysign(np.ceil(np.abs(x) - 0.5), x),
}


def _mode(call: Call) -> str:
    mode = call.attrs.rounding_mode.upper()
    if mode not in _EMIT:
        raise call.fail(f"rounding_mode is {call.attrs.rounding_mode!r}", f"one of: {', '.join(_EMIT)}")
    return mode


def _limits(bits: float, signed: bool, narrow: bool) -> tuple[float, float]:
    """The lowest and the highest number of so many bits; `narrow` leaves one out."""
    if signed:
        return -(2.0 ** (bits - 1)) + narrow, 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1 - narrow


def _check_numbers(call: Call, *bits: int) -> None:
    """Raises TypeRuleError unless operands are floats that broadcast to x, and those of bits one number each."""
    if not FLOATING.accepts(call.dtype(0)):
        raise call.fail(f"takes floats, not {call.dtype(0)}", "insert a Cast")
    require_same_dtype(call, 0, *(i for i in range(1, len(call.inputs)) if i not in bits))
    for i in range(1, len(call.inputs)):
        if i in bits and call.const(i).size != 1:
            raise call.fail(f"'{call.op.inputs[i]}' has shape {call.shape(i)}", "give one number")
        if i not in bits:
            require_broadcasts_to_first(call, i)


def _bits(call: Call, i: int) -> float:
    return float(call.const(i).reshape(()))


# --- Quant ------------------------------------------------------------------------------------------------------------
def _check_quant(call: Call) -> None:
    _mode(call)
    _check_numbers(call, 3)


def _expand_quant(b: Builder, call: Call) -> Value:
    x, scale, zero, _ = call.inputs
    q = b.add("Add", b.add("Div", x, scale), zero)
    bits, (one, minus) = _bits(call, 3), (b.constant(v, call.dtype(0)) for v in (1, -1))
    if bits == 1 and call.attrs.signed:
        call.attrs.ignore("narrow", "rounding_mode")
        q = b.add("Where", b.add("GreaterOrEqual", q, b.constant(0, call.dtype(0))), one, minus)
    else:
        limits = (b.constant(v, call.dtype(0)) for v in _limits(bits, call.attrs.signed, call.attrs.narrow))
        q = _EMIT[_mode(call)](b, b.add("Clip", q, *limits))
    return b.add("Mul", b.add("Sub", q, zero), scale)


def _quant(x, scale, zero, bits, signed, narrow, rounding_mode):
    """round(clip(x / scale + zero)) between the limits of the bits, as a real number again; one signed bit is a sign."""
    q = x / scale + zero
    if bits == 1 and signed:
        q = np.where(q >= 0, 1.0, -1.0).astype(x.dtype)
    else:
        q = _ROUND[rounding_mode.upper()](np.clip(q, *_limits(float(bits.reshape(())), signed, narrow)))
    return (q - zero) * scale


def _number(value: float) -> Const:
    return Const(value, "float32")


_X = Tensor((2, 3, 4, 5))
_EACH = Const([[[0.5]], [[0.25]], [[0.125]]], "float32")


def _quant_case(bits: float, scale=None, zero: float = 0.0, rounding_mode: str = "ROUND", **attrs) -> Case:
    operands = (_X, scale or _number(0.25), _number(zero), _number(bits))
    return Case(operands, {"signed": 1, "narrow": 0, "rounding_mode": rounding_mode, **attrs})


_QUANTS = [
    _quant_case(4),
    _quant_case(3, _EACH, narrow=1),
    _quant_case(2, signed=0, zero=1.0, narrow=1),
    _quant_case(1),
    _quant_case(1, signed=0),
    *(_quant_case(4, rounding_mode=mode) for mode in ("CEIL", "floor", "UP", "DOWN", "HALF_UP", "HALF_DOWN")),
]


# --- BipolarQuant -----------------------------------------------------------------------------------------------------
def _expand_bipolar(b: Builder, call: Call) -> Value:
    zero, one, minus = (b.constant(v, call.dtype(0)) for v in (0, 1, -1))
    sign = b.add("Where", b.add("GreaterOrEqual", call.inputs[0], zero), one, minus)
    return b.add("Mul", sign, call.inputs[1])


# --- Trunc ------------------------------------------------------------------------------------------------------------
def _check_trunc(call: Call) -> None:
    """The first version has no output_scale: x, scale, zero point, bits of the input, bits of the result."""
    _mode(call)
    _check_numbers(call, *((3, 5) if call.has(5) else (3, 4)))


def _expand_trunc(b: Builder, call: Call) -> Value:
    x, scale, zero, _, fourth = call.inputs[:5]
    dtype = call.dtype(0)
    q = b.add("Round", b.add("Add", b.add("Div", x, scale), zero))
    if not call.has(5):
        call.attrs.ignore("signed", "narrow")  # of the second version
        q = b.add("Div", q, b.constant(2.0 ** (_bits(call, 3) - _bits(call, 4)), dtype))
        return b.add("Mul", b.add("Sub", _EMIT[_mode(call)](b, q), zero), scale)
    powers = b.add("Div", b.add("Log", b.add("Div", fourth, scale)), b.constant(np.log(2.0), dtype))
    shift = b.add("Pow", b.constant(2, dtype), b.add("Round", powers))
    limits = (b.constant(v, dtype) for v in _limits(_bits(call, 5), call.attrs.signed, call.attrs.narrow))
    q = _EMIT[_mode(call)](b, b.add("Clip", b.add("Div", q, shift), *limits))
    return b.add("Mul", b.add("Sub", q, b.add("Div", zero, shift)), fourth)


def _trunc(x, scale, zero, bits, fourth, out_bits=None, *, rounding_mode, signed, narrow):
    """round(x / scale + zero) without its lowest bits, as a real number again."""
    function, q = _ROUND[rounding_mode.upper()], np.rint(x / scale + zero)
    if out_bits is None:
        return (function(q / x.dtype.type(2.0 ** float(bits - fourth))) - zero) * scale
    shift = 2 ** np.rint(np.log2(fourth / scale))
    q = function(np.clip(q / shift, *_limits(float(out_bits.reshape(())), signed, narrow)))
    return (q - zero / shift) * fourth


_TRUNCS = [
    Case((_X, _number(0.25), _number(0.0), _number(8), _number(6))),
    Case((_X, _EACH, _number(2.0), _number(8), _number(5)), {"rounding_mode": "ROUND"}),
    Case((_X, _number(0.25), _number(0.0), _number(8), _number(1.0), _number(3))),
    Case(
        (_X, _EACH, _number(4.0), _number(8), _number(0.5), _number(4)),
        {"rounding_mode": "CEIL", "signed": 0, "narrow": 1},
    ),
]


# --- MultiThreshold ---------------------------------------------------------------------------------------------------
def _channel_axis(call_rank: int, layout: str) -> int:
    layout = layout or {3: "NWC"}.get(call_rank, "")
    return layout.index("C") if "C" in layout else 1


def _check_threshold(call: Call) -> None:
    require_same_dtype(call, 0, 1)
    axis, t = _channel_axis(call.rank(0), call.attrs.data_layout), call.shape(1)
    if len(t) != 2 or axis >= call.rank(0) or (t[0] != 1 and differ(t[0], call.shape(0)[axis])):
        raise call.fail(f"thresholds {t} of x {call.shape(0)}", "give one row, or one for each channel")


def _expand_threshold(b: Builder, call: Call) -> Value:
    rank = call.rank(0)
    axis = _channel_axis(rank, call.attrs.data_layout)
    ones = [i for i in range(rank) if i != axis]
    levels = b.add("Unsqueeze", call.inputs[1], b.constant(ones, np.int64))
    last = b.constant([-1], np.int64)
    above = b.add("GreaterOrEqual", b.add("Unsqueeze", call.inputs[0], last), levels)
    count = b.add("ReduceSum", b.add("Cast", above, to=call.dtype(0)), last, keepdims=False)
    scaled = b.add("Mul", count, b.constant(call.attrs.out_scale, call.dtype(0)))
    return b.add("Add", scaled, b.constant(call.attrs.out_bias, call.dtype(0)))


def _threshold(x, levels, out_dtype, out_scale, out_bias, data_layout):
    """out_scale · (how many thresholds of its channel x reaches) + out_bias."""
    axis = _channel_axis(x.ndim, data_layout)
    columns = np.moveaxis(x, axis, -1)[..., None]
    count = (columns >= levels).sum(-1).astype(x.dtype)
    return np.moveaxis(count, -1, axis) * x.dtype.type(out_scale) + x.dtype.type(out_bias)


_LEVELS = np.linspace(-3, 3, 21).reshape(3, 7).tolist()
_THRESHOLDS = [
    Case((_X, Const(_LEVELS, "float32")), {"out_dtype": "UINT3"}),
    Case((Tensor((2, 4, 3)), Const(_LEVELS[:1], "float32")), {"out_dtype": "INT3", "out_scale": 0.5, "out_bias": -1.0}),
    Case((Tensor((2, 4, 5, 3)), Const(_LEVELS, "float32")), {"out_dtype": "UINT3", "data_layout": "NHWC"}),
]

_ROUNDED = {"rounding_mode": Attr(str, "ROUND")}
for _name in ("Quant", "IntQuant"):
    composed(
        _name,
        "x scale zero_point bit_width",
        in_float32(_quant),
        _expand_quant,
        _QUANTS,
        {"signed": Attr(bool), "narrow": Attr(bool), **_ROUNDED},
        check=_check_quant,
        domain=DOMAIN,
        dtypes=("float32",),
        values=(3,),
    )
composed(
    "BipolarQuant",
    "x scale",
    in_float32(lambda x, scale: np.where(x >= 0, scale, -scale)),
    _expand_bipolar,
    [Case((_X, _number(0.5))), Case((_X, _EACH))],
    check=_check_numbers,
    domain=DOMAIN,
    dtypes=("float32",),
)
composed(
    "Trunc",
    "x scale zero_point input_bit_width output_bit_width_or_scale output_bit_width?",
    in_float32(_trunc),
    _expand_trunc,
    _TRUNCS,
    {"rounding_mode": Attr(str, "FLOOR"), "signed": Attr(bool, True), "narrow": Attr(bool, False)},
    check=_check_trunc,
    domain=DOMAIN,
    dtypes=("float32",),
    values=(3, 4, 5),
)
composed(
    "MultiThreshold",
    "x thresholds",
    in_float32(_threshold),
    _expand_threshold,
    _THRESHOLDS,
    {
        "out_dtype": Attr(str, "", settled=True),
        "out_scale": Attr(float, 1.0),
        "out_bias": Attr(float, 0.0),
        "data_layout": Attr(str, ""),
    },
    check=_check_threshold,
    domain=DOMAIN,
    dtypes=("float32",),
)

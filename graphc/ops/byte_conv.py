"""ConvBytes: the convolution of unsigned by signed bytes, in int32. Quantized convolutions become it, and terms for zero points.

With a zero point z of the input and zero weights behind 0,

    Σ (x - z) w = Σ x w - z Σ w,

where x is z behind its border, so that the second term is a constant for each output channel (Jacob et al., "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 2.3). All arithmetic wraps modulo
2^32, as int32 does.
"""

from __future__ import annotations

import math
from functools import partial, reduce

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops.contract import require_dtype
from graphc.ops.qproduct import INT8, INT32, UINT8, moved
from graphc.ops.window import CONV_ATTRS, conv, conv_macs, conv_shape
from graphc.types import TensorType, number, numbers

EXACT = 2**24  # whole numbers of float32 up to here are exact
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


# --- the convolution --------------------------------------------------------------------------------------------------
def _infer(call: Call) -> list[TensorType]:
    require_dtype(call, 0, ("uint8",))
    require_dtype(call, 1, ("int8",))
    require_dtype(call, 2, ("uint8",))
    return [TensorType(INT32, conv_shape(call))]


def _reference(x, w, fill, **attrs):
    """The border is `fill`: that of x - fill is 0."""
    z, wide = fill.astype(np.float64), w.astype(np.float64)
    sums = wide.sum(tuple(range(1, w.ndim))).reshape(-1, *[1] * (w.ndim - 2))
    return (conv(x.astype(np.float64) - z, wide, None, **attrs) + z * sums).astype(np.int64).astype(INT32)


def _expand(b: Builder, call: Call) -> Value:
    """Exact in floats, by algorithms that make no other sums: in float32, of so few channels at a time that every partial sum stays
    below 2^24; in float64 where groups are too large for that."""
    x, w, fill = call.inputs
    border = b.add("Mul", b.add("Cast", fill, to=INT32), _sums(b, w))
    return b.add("Add", _centred_conv(b, call, x, w, fill), border)


def _centred_conv(b: Builder, call: Call, x: Value, w: Value, fill: Value) -> Value:
    if 255 * 128 * math.prod(w.type.shape[1:]) < EXACT:  # whatever the weights are, and for many numbers of channels
        return _conv_of(b, call, _centred(b, x, fill, FLOAT32), b.add("Cast", w, to=FLOAT32))
    group = call.attrs.group
    sizes = _magnitudes(w)
    most = len(sizes) if group == 1 else 1
    parts = next((n for n in range(1, most + 1) if _largest(sizes, n) < EXACT), 1)
    if _largest(sizes, parts) >= EXACT or parts == 1:
        dtype = FLOAT32 if _largest(sizes, parts) < EXACT else FLOAT64
        return _conv_of(b, call, _centred(b, x, fill, dtype), b.add("Cast", w, to=dtype))
    lengths = b.constant([len(part) for part in np.array_split(sizes, parts)], np.int64)
    xs, ws = (b.add("Split", v, lengths, axis=1, outputs=parts) for v in (_centred(b, x, fill, FLOAT32), w))
    return reduce(partial(b.add, "Add"), [_conv_of(b, call, p, b.add("Cast", v, to=FLOAT32)) for p, v in zip(xs, ws)])


def _centred(b: Builder, x: Value, zero: Value, dtype: np.dtype) -> Value:
    return b.add("Sub", b.add("Cast", x, to=dtype), b.add("Cast", zero, to=dtype))


def _conv_of(b: Builder, call: Call, x: Value, w: Value) -> Value:
    return b.add("Cast", b.add("Conv", x, w, exact=True, **call.attrs), to=INT32)


def _magnitudes(w: Value) -> np.ndarray:
    """[channels, filters]: the largest that a sum over the window of one input channel can be."""
    channels, window = number(w.type.shape[1]), math.prod(numbers(w.type.shape[2:]))
    if not w.is_const:
        return np.full((channels, 1), 255.0 * 128 * window)
    return 255 * np.abs(w.data.astype(np.float64)).reshape(len(w.data), channels, window).sum(2).T


def _largest(sizes: np.ndarray, parts: int) -> float:
    """Of all sums, over the channels of a part."""
    return max(part.sum(0).max(initial=0) for part in np.array_split(sizes, parts))


def _sums(b: Builder, w: Value) -> Value:
    """[M, 1, …]: the sum of each filter."""
    rank = len(w.type.shape)
    if w.is_const:
        return b.constant(w.data.sum(tuple(range(1, rank)), dtype=np.int32).reshape(-1, *[1] * (rank - 2)))
    total = b.add("ReduceSum", b.add("Cast", w, to=INT32), b.constant(range(1, rank), np.int64), keepdims=False)
    return b.add("Reshape", total, b.constant([-1, *[1] * (rank - 2)], np.int64))


_USES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict], ...] = (
    ((1, 8, 5, 7), (16, 8, 1, 1), {}),
    ((2, 3, 13, 13), (5, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 3, 15, 15), (20, 3, 5, 5), {"pads": (2, 1, 1, 2), "strides": (2, 2)}),
    ((2, 6, 7, 13), (4, 3, 3, 2), {"group": 2, "strides": (2, 1), "pads": (0, 1, 1, 0)}),
    ((1, 9, 7, 7), (9, 1, 3, 3), {"group": 9, "auto_pad": "SAME_UPPER", "strides": (2, 2)}),
    ((1, 40, 6, 9), (40, 1, 3, 3), {"group": 40, "pads": (1, 1, 1, 1)}),
    ((1, 4, 17), (6, 4, 3), {"dilations": (2,)}),
)

register(
    Op(
        "ConvBytes",
        ("x", "w", "fill"),
        _infer,
        _reference,
        CONV_ATTRS,
        expand=_expand,
        macs=conv_macs,
        tolerance=0.0,
        per_sample=True,
        samples=Samples(
            ("uint8",),
            cases=tuple(
                Case((Tensor(x, 0, 255, "uint8"), Tensor(w, -128, 127, "int8"), Const(fill, "uint8")), attrs)
                for fill, (x, w, attrs) in zip((0, 128, 255, 7, 3, 255, 1), _USES)
            ),
        ),
        windowed=True,
        internal=True,
    )
)


# --- convolutions with zero points ------------------------------------------------------------------------------------
def emit_integer_conv(b: Builder, call: Call, x: Value, x_zero: Value | None, w: Value, w_zero: Value | None) -> Value:
    """Σ (x - x_zero)(w - w_zero) of int8 or uint8 operands as int32. x_zero: a number, w_zero: a number or one for each filter.

    Σ (x - z)(w - y) = Σ x w - z Σ w - y (Σ x - z K),   K elements of a filter
    """
    x, z = moved(b, x, x_zero, UINT8)
    w, y = moved(b, w, w_zero, INT8)
    fill = b.constant(0, UINT8) if z is None else b.add("Cast", _number(b, z), to=UINT8)
    total = b.add("ConvBytes", x, w, fill, **call.attrs)
    if z is not None:
        total = b.add("Sub", total, b.add("Mul", _number(b, z), _sums(b, w)))
    if y is None:
        return total
    rank = len(w.type.shape)
    ones = b.constant(np.ones((call.attrs.group, *w.type.shape[1:]), np.int8))
    inputs = b.add("ConvBytes", x, ones, fill, **call.attrs)  # [N, groups, *out]
    if z is not None:
        count = b.add("Cast", b.constant(math.prod(w.type.shape[1:]), np.int64), to=INT32)
        inputs = b.add("Sub", inputs, b.add("Mul", _number(b, z), count))
    if call.attrs.group > 1:  # to each filter the sums of its group
        filters = number(w.type.shape[0])
        of = np.arange(filters) // (filters // call.attrs.group)
        inputs = b.add("Gather", inputs, b.constant(of, np.int64), axis=1)
    y = y if y.type.shape in ((), (1,)) else b.add("Reshape", y, b.constant([-1, *[1] * (rank - 2)], np.int64))
    return b.add("Sub", total, b.add("Mul", y, inputs))


def _number(b: Builder, z: Value) -> Value:
    return z if z.type.shape == () else b.add("Reshape", z, b.constant([], np.int64))

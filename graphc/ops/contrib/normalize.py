"""Normalisations of com.microsoft: a residual addition and the layer normalisation behind it."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor, get_op
from graphc.ops.contrib.record import contrib
from graphc.ops.elementwise import broadcasting, require_broadcasts_to_first
from graphc.ops.precision import FLOAT32, FLOATING, widen
from graphc.ops.standardize import STASH, infer_floats
from graphc.types import TensorType

_EPSILON = Attr(float, 1e-12)


def _skip_type(call: Call) -> list[TensorType]:
    """y, mean, inverse deviation (float32, [..., 1]) and the sum."""
    (x,) = infer_floats(call)
    if x.rank not in (2, 3):
        raise call.fail(f"takes [S, H] or [B, S, H], not {x.shape}")
    for i in range(1, len(call.inputs)):
        if call.has(i):
            require_broadcasts_to_first(call, i)
    broadcasting(FLOATING)(call)
    statistic = TensorType(FLOAT32, (*x.shape[:-1], 1))
    return [x, statistic, statistic, x]


def _total(arrays):
    return sum((widen(a) for a in arrays if a is not None), np.float32(0))


def _skip_reference(x, skip, gamma, beta=None, bias=None, *, epsilon):
    total = _total((x, skip, bias))
    mean = total.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(((total - mean) ** 2).mean(axis=-1, keepdims=True) + epsilon)
    y = (total - mean) * inverse * widen(gamma) + (0 if beta is None else widen(beta))
    return y.astype(x.dtype), mean.astype(FLOAT32), inverse.astype(FLOAT32), total.astype(x.dtype)


def _skip_sum(b: Builder, call: Call, bias: int) -> Value:
    total = b.add("Add", call.inputs[0], call.inputs[1])
    return b.add("Add", total, call.inputs[bias]) if call.has(bias) else total


def _expand_skip(b: Builder, call: Call) -> Value | tuple[Value, ...]:
    total = _skip_sum(b, call, 4)
    operands = (total, call.inputs[2], call.inputs[3] if call.has(3) else None)
    if call.n_outputs == 1:
        return b.add("LayerNormalization", *operands, axis=-1, epsilon=call.attrs.epsilon)
    y, mean, inverse = b.add("LayerNormalization", *operands, axis=-1, epsilon=call.attrs.epsilon, outputs=3)
    return (y, mean, inverse, total)[: call.n_outputs]


_X, _H = Tensor((2, 3, 8)), Tensor((8,))
_OUTPUTS = ("y", "mean", "inverse_deviation", "sum")
contrib(
    "SkipLayerNormalization",
    "x skip gamma beta? bias?",
    _skip_type,
    _skip_reference,
    _expand_skip,
    [
        Case((_X, _X, _H, _H)),
        Case((_X, Tensor((3, 8)), _H, _H, _H), {"epsilon": 1e-5}, 4),
        Case((Tensor((3, 8)), Tensor((3, 8)), _H), {"epsilon": 1e-5}),
    ],
    {"epsilon": _EPSILON},
    _OUTPUTS,
    tolerance=1e-4,  # as LayerNormalization
)


def _simplified_reference(x, skip, gamma, bias=None, *, epsilon):
    total = _total((x, skip, bias))
    inverse = 1 / np.sqrt((total * total).mean(axis=-1, keepdims=True) + epsilon)
    nothing = np.zeros(inverse.shape, FLOAT32)  # the mean, which is not computed
    return (total * inverse * widen(gamma)).astype(x.dtype), nothing, inverse.astype(FLOAT32), total.astype(x.dtype)


def _inverse_root(b: Builder, x: Value, axes: list[int], epsilon: float) -> Value:
    """1/sqrt(mean(x²) + epsilon) over the axes, in float32 for narrower x."""
    dtype = x.type.dtype if x.type.dtype.itemsize >= 4 else FLOAT32
    wide = _cast(b, x, dtype)
    mean = b.add("ReduceMean", b.add("Mul", wide, wide), b.constant(axes, "int64"))
    return b.add("Reciprocal", b.add("Sqrt", b.add("Add", mean, b.constant(epsilon, dtype))))


def _cast(b: Builder, v: Value, dtype: np.dtype) -> Value:
    return v if v.type is not None and v.type.dtype == dtype else b.add("Cast", v, to=dtype)


def _expand_simplified(b: Builder, call: Call) -> Value | tuple[Value, ...]:
    total = _skip_sum(b, call, 3)
    y = b.add("RMSNormalization", total, call.inputs[2], axis=-1, epsilon=call.attrs.epsilon)
    if call.n_outputs == 1:
        return y
    inverse = _cast(b, _inverse_root(b, total, [-1], call.attrs.epsilon), FLOAT32)
    nothing = b.add("Where", b.constant(False), inverse, b.constant(0, FLOAT32))
    return (y, nothing, inverse, total)[: call.n_outputs]


contrib(
    "SkipSimplifiedLayerNormalization",
    "x skip gamma bias?",
    _skip_type,
    _simplified_reference,
    _expand_simplified,
    [Case((_X, _X, _H)), Case((_X, Tensor((1, 3, 8)), _H, _H), {"epsilon": 1e-5}, 4)],
    {"epsilon": _EPSILON},
    _OUTPUTS,
)


# --- SimplifiedLayerNormalization: in the main domain, though ONNX has no such operator -------------------------------
def _rms(call: Call) -> Call:
    op = get_op("RMSNormalization")
    return Call(op, call.inputs, {**call.attrs, "stash_type": FLOAT32}, 1)


def _rms_type(call: Call) -> list[TensorType]:
    (y,) = _rms(call).op.infer(_rms(call))
    first = call.axis_of(call.attrs.axis, call.rank(0))
    return [y, TensorType(FLOAT32, tuple(1 if i >= first else d for i, d in enumerate(call.shape(0))))]


def _rms_reference(x, scale, axis, epsilon, stash_type):
    wide = widen(x)
    axes = tuple(range(axis % x.ndim, x.ndim))
    inverse = 1 / np.sqrt((wide * wide).mean(axis=axes, keepdims=True) + epsilon)
    return (wide * inverse * widen(scale)).astype(scale.dtype), inverse.astype(FLOAT32)


def _expand_rms(b: Builder, call: Call) -> Value | tuple[Value, ...]:
    y = b.add("RMSNormalization", *call.inputs, axis=call.attrs.axis, epsilon=call.attrs.epsilon)
    if call.n_outputs == 1:
        return y
    rank = call.rank(0)
    axes = list(range(call.axis_of(call.attrs.axis, rank), rank))
    return y, _cast(b, _inverse_root(b, call.inputs[0], axes, call.attrs.epsilon), FLOAT32)


contrib(
    "SimplifiedLayerNormalization",
    "x scale",
    _rms_type,
    _rms_reference,
    _expand_rms,
    [Case((_X, _H)), Case((_X, Tensor((3, 8))), {"axis": 1}, 2)],
    {"axis": Attr(int, -1), "epsilon": Attr(float, 1e-5), "stash_type": STASH},
    ("y", "inverse_deviation"),
    domain="",
)

"""Normalisation by statistics of the operand itself: layer, RMS, instance, group, mean-variance, Lp.

Every operator carries an expansion into reductions and arithmetic.
"""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Family, Op, Samples, Tensor, register
from graphc.ops.elementwise import require_broadcasts_to_first
from graphc.ops.precision import INT64, in_float32, widen
from graphc.ops.standardize import (
    EPSILON,
    STASH,
    Expansion,
    column,
    infer_floats,
    require_per_channel,
    standardize,
)
from graphc.types import TensorType


# --- LayerNormalization and RMSNormalization: over the axes from `axis` on --------------------------------------------
def _trailing_axes(call: Call) -> list[int]:
    rank = call.rank(0)
    return list(range(call.axis_of(call.attrs.axis, rank), rank))


def _infer_layer(call: Call) -> list[TensorType]:
    (x,) = infer_floats(call)
    axes = _trailing_axes(call)
    for i, name in ((1, "scale"), (2, "bias")):
        if call.has(i):
            require_broadcasts_to_first(call, i)
            if call.dtype(i) != x.dtype:
                raise call.fail(f"'{name}' differs in dtype from the operand", "insert a Cast")
    statistic = TensorType(call.attrs.stash_type, tuple(1 if i in axes else d for i, d in enumerate(x.shape)))
    return [x, statistic, statistic]


def _expand_layer(b: Builder, call: Call) -> Value | tuple[Value, ...]:
    ex = Expansion(b, call)
    mean, centered, variance = ex.center(ex.x, _trailing_axes(call))
    inverse = ex.inverse_root(variance)
    y = ex.cast(b.add("Mul", centered, inverse), call.dtype(0))
    y = ex.scale_shift(y, call.inputs[1], call.inputs[2] if call.has(2) else None)
    return (
        (y, ex.cast(mean, call.attrs.stash_type), ex.cast(inverse, call.attrs.stash_type))[: call.n_outputs]
        if call.n_outputs > 1
        else y
    )


def _layer_reference(x, scale, bias=None, *, axis, epsilon, stash_type):
    y, mean, inverse = standardize(widen(x), range(axis % x.ndim, x.ndim), epsilon)
    y = widen(y.astype(x.dtype)) * widen(scale)
    y = y if bias is None else widen(y.astype(x.dtype)) + widen(bias)
    return y.astype(x.dtype), mean.astype(stash_type), inverse.astype(stash_type)


register(
    Op(
        "LayerNormalization",
        ("x", "scale", "bias?"),
        _infer_layer,
        _layer_reference,
        {"axis": Attr(int, -1), "epsilon": EPSILON, "stash_type": STASH},
        outputs=("y", "mean", "inverse_deviation"),
        expand=_expand_layer,
        samples=Samples(
            cases=(
                Case((Tensor((2, 3, 8)), Tensor((8,)), Tensor((8,)))),
                Case((Tensor((2, 67)), Tensor((67,)))),
                Case((Tensor((2, 3, 4, 5)), Tensor((4, 5)), Tensor((4, 5))), {"axis": 2}, 3),
                Case((Tensor((2, 3, 4)), Tensor((2, 3, 4)), Tensor((4,))), {"axis": 0, "epsilon": 0.1}, 2),
                Case((Tensor((3, 16), 90, 110), Tensor((16,)), Tensor((16,)))),  # mean² far above the variance
                Case((Tensor((0, 8)), Tensor((8,)), Tensor((8,)))),
            )
        ),
        tolerance=1e-4,  # the mean is rounded at the size of x, then divided by the deviation: some 20 times less
        flops=lambda call: 7 * call.type(0).size,
        family=Family.NORMALIZE,
    )
)


def _infer_rms(call: Call) -> list[TensorType]:
    (x,) = infer_floats(call)
    _trailing_axes(call)
    require_broadcasts_to_first(call, 1)
    return [x.with_dtype(call.dtype(1))]


def _expand_rms(b: Builder, call: Call) -> Value:
    ex = Expansion(b, call)
    square = ex.mean(b.add("Mul", ex.x, ex.x), _trailing_axes(call))
    y = ex.cast(b.add("Mul", ex.x, ex.inverse_root(square)), call.dtype(0))
    return b.add("Mul", ex.cast(y, call.dtype(1)), call.inputs[1])


def _rms_reference(x, scale, *, axis, epsilon, stash_type):
    wide = widen(x)
    square = np.mean(wide * wide, tuple(range(axis % x.ndim, x.ndim)), keepdims=True)
    y = (wide / np.sqrt(square + epsilon)).astype(x.dtype).astype(scale.dtype)
    return (widen(y) * widen(scale)).astype(scale.dtype)


register(
    Op(
        "RMSNormalization",
        ("x", "scale"),
        _infer_rms,
        _rms_reference,
        {"axis": Attr(int, -1), "epsilon": EPSILON, "stash_type": STASH},
        expand=_expand_rms,
        samples=Samples(
            cases=(
                Case((Tensor((2, 3, 8)), Tensor((8,)))),
                Case((Tensor((2, 67)), Tensor((67,))), {"epsilon": 0.1}),
                Case((Tensor((2, 3, 4, 5)), Tensor((4, 5))), {"axis": -2}),
                Case((Tensor((2, 3, 4)), Tensor((2, 3, 4))), {"axis": 0}),
            )
        ),
        flops=lambda call: 4 * call.type(0).size,
        family=Family.NORMALIZE,
    )
)


# --- InstanceNormalization and GroupNormalization: statistics over a group of channels of one instance ----------------
def _infer_instance(call: Call) -> list[TensorType]:
    (x,) = infer_floats(call)
    if x.rank < 3:
        raise call.fail(
            f"takes operands of rank 3 or more, not {x.rank}", "batch, channels, then what to normalise over"
        )
    require_per_channel(call, "scale", "bias")
    return [x]


def _expand_instance(b: Builder, call: Call) -> Value:
    ex = Expansion(b, call)
    _, centered, variance = ex.center(ex.x, range(2, ex.rank))
    y = b.add("Mul", centered, ex.inverse_root(variance))
    scale, shift = (ex.column(ex.wide(v)) for v in call.inputs[1:])
    return ex.cast(ex.scale_shift(y, scale, shift), call.dtype(0))


def _instance_reference(x, scale, bias, *, epsilon):
    y = standardize(x, range(2, x.ndim), epsilon)[0]
    return y * column(scale, x) + column(bias, x)


register(
    Op(
        "InstanceNormalization",
        ("x", "scale", "bias"),
        _infer_instance,
        in_float32(_instance_reference),
        {"epsilon": EPSILON},
        expand=_expand_instance,
        samples=Samples(
            cases=(
                Case((Tensor((2, 3, 4, 5)), Tensor((3,)), Tensor((3,)))),
                Case((Tensor((1, 2, 9)), Tensor((2,)), Tensor((2,))), {"epsilon": 0.01}),
                Case((Tensor((2, 3, 2, 3, 2)), Tensor((3,)), Tensor((3,)))),
            )
        ),
        flops=lambda call: 7 * call.type(0).size,
        family=Family.NORMALIZE,
    )
)


def _infer_group(call: Call) -> list[TensorType]:
    (x,) = infer_floats(call)
    if x.rank < 2:
        raise call.fail(f"takes operands of rank 2 or more, not {x.rank}")
    require_per_channel(call, "scale", "bias")
    if call.attrs.num_groups < 1 or (isinstance(x.shape[1], int) and x.shape[1] % call.attrs.num_groups):
        raise call.fail(f"{x.shape[1]} channels do not divide into {call.attrs.num_groups} groups", "change num_groups")
    return [x]


def _expand_group(b: Builder, call: Call) -> Value:
    """Standardised in the view [batch, groups, elements]."""
    if 0 in call.shape(0):
        return b.add("Identity", call.inputs[0])
    ex = Expansion(b, call)
    _, centered, variance = ex.center(ex.reshape(ex.x, (0, call.attrs.num_groups, -1)), [2])
    y = ex.reshape_like_x(b.add("Mul", centered, ex.inverse_root(variance)))
    scale, shift = (ex.column(ex.wide(v)) for v in call.inputs[1:])
    return ex.cast(ex.scale_shift(y, scale, shift), call.dtype(0))


def _group_reference(x, scale, bias, *, epsilon, num_groups, stash_type):
    grouped = x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])
    y = standardize(grouped, range(2, grouped.ndim), epsilon)[0].reshape(x.shape)
    return y * column(scale, x) + column(bias, x)


register(
    Op(
        "GroupNormalization",
        ("x", "scale", "bias"),
        _infer_group,
        in_float32(_group_reference),
        {"num_groups": Attr(int), "epsilon": EPSILON, "stash_type": STASH},
        expand=_expand_group,
        samples=Samples(
            cases=(
                Case((Tensor((2, 6, 4, 5)), Tensor((6,)), Tensor((6,))), {"num_groups": 2}),
                Case((Tensor((2, 6, 7)), Tensor((6,)), Tensor((6,))), {"num_groups": 1, "epsilon": 0.01}),
                Case((Tensor((3, 4, 2, 2)), Tensor((4,)), Tensor((4,))), {"num_groups": 4}),
            )
        ),
        flops=lambda call: 7 * call.type(0).size,
        family=Family.NORMALIZE,
    )
)


# --- MeanVarianceNormalization and LpNormalization --------------------------------------------------------------------
def _mean_variance_axes(call: Call) -> list[int]:
    return sorted(call.axis_of(a, call.rank(0)) for a in call.attrs.axes)


def _infer_mean_variance(call: Call) -> list[TensorType]:
    _mean_variance_axes(call)
    return infer_floats(call)


def _expand_mean_variance(b: Builder, call: Call) -> Value:
    ex = Expansion(b, call)
    _, centered, variance = ex.center(ex.x, _mean_variance_axes(call))
    deviation = b.add("Add", b.add("Sqrt", variance), ex.number(1e-9))
    return ex.cast(b.add("Div", centered, deviation), call.dtype(0))


def _mean_variance_reference(x, *, axes):
    return (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-9)  # 1e-9: ONNX's function body


register(
    Op(
        "MeanVarianceNormalization",
        ("x",),
        _infer_mean_variance,
        in_float32(_mean_variance_reference),
        {"axes": Attr("ints", (0, 2, 3))},
        expand=_expand_mean_variance,
        samples=Samples(
            cases=(
                Case((Tensor((2, 3, 4, 5)),)),
                Case((Tensor((2, 3, 9)),), {"axes": (-1,)}),
                Case((Tensor((4, 6)),), {"axes": (0, 1)}),
            )
        ),
        flops=lambda call: 6 * call.type(0).size,
        family=Family.NORMALIZE,
    )
)


def _infer_lp(call: Call) -> list[TensorType]:
    (x,) = infer_floats(call)
    call.axis_of(call.attrs.axis, x.rank)
    return [x]


def _expand_lp(b: Builder, call: Call) -> Value:
    ex = Expansion(b, call)
    axis = b.constant([call.axis_of(call.attrs.axis, ex.rank)], INT64)
    norm = b.add("ReduceL1" if call.attrs.p == 1 else "ReduceL2", ex.x, axis)
    divisor = b.add("Where", b.add("Equal", norm, ex.number(0)), ex.number(1), norm)
    return ex.cast(b.add("Div", ex.x, divisor), call.dtype(0))


def _lp_reference(x, *, axis, p):
    norm = np.linalg.norm(x, p, axis, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm != 0)


register(
    Op(
        "LpNormalization",
        ("x",),
        _infer_lp,
        in_float32(_lp_reference),
        {"axis": Attr(int, -1), "p": Attr(int, 2, choices=(1, 2))},
        expand=_expand_lp,
        samples=Samples(
            cases=(
                Case((Tensor((3, 5)),)),
                Case((Tensor((2, 3, 4)),), {"axis": 1, "p": 1}),
                Case((Tensor((2, 3, 4)),), {"axis": 0}),
                Case((Tensor((2, 3), 0, 0),)),
            )
        ),
        flops=lambda call: 3 * call.type(0).size,
        family=Family.NORMALIZE,
    )
)

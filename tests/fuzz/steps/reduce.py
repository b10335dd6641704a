"""Reductions, softmax and normalisations."""

from __future__ import annotations

import math

import numpy as np

from ..draft import Draft, Reject, Tensor
from ..draws import is_float
from . import step

REDUCE = [
    "ReduceSum",
    "ReduceSum",
    "ReduceMean",
    "ReduceMean",
    "ReduceMax",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
]


@step(4)
def reduction(d: Draft) -> Tensor:
    """Over any axes, none, or all; kept or not; as an attribute in older opsets."""
    op = d.draw.one_of(*REDUCE)
    x = d.floats() if d.draw.chance(0.9) else d.pick(lambda t: t.dtype.name in ("int32", "int64"))
    if not is_float(x.dtype) and (op == "ReduceLogSum" or np.abs(x.value.astype(float)).max(initial=0) > 1000):
        raise Reject("a root or logarithm of what overflows")
    if op == "ReduceLogSum":
        x = d.node("Exp", x)
    axes: list[int] | None = d.draw.some(range(x.rank), d.draw.one_of(0.3, 0.5, 0.9))
    if x.rank and d.draw.chance(0.4):
        axes = [x.rank - 1 if d.draw.chance(0.5) else d.axis(x) % x.rank]
    axes = [i - x.rank if d.draw.chance(0.4) else i for i in axes] or None
    keepdims = d.draw.one_of(None, 0, 1)
    if d.opset >= 18 or op == "ReduceSum":
        noop = d.draw.one_of(None, 0, 1) if axes is None else d.draw.one_of(None, None, 0, 1)
        given = d.ints(*axes) if axes is not None else d.draw.one_of(None, d.ints())
        return d.node(op, x, given, keepdims=keepdims, noop_with_empty_axes=noop)
    return d.node(op, x, axes=axes, keepdims=keepdims)


@step(2)
def softmax(d: Draft) -> Tensor:
    x = d.pick(lambda t: is_float(t.dtype) and t.rank > 0)
    return d.node(d.draw.one_of("Softmax", "Softmax", "LogSoftmax"), x, axis=d.draw.one_of(None, d.axis(x)))


@step(0.3)
def hardmax(d: Draft) -> Tensor:
    x = d.pick(lambda t: is_float(t.dtype) and t.rank > 0 and t.size > 0)
    return d.node("Hardmax", x, axis=d.draw.one_of(None, d.axis(x)))


@step(2)
def layer_norm(d: Draft) -> Tensor:
    """As one node, and as exporters write it out."""
    x = d.pick(lambda t: is_float(t.dtype) and t.rank > 0 and t.size > 0)
    axis = d.axis(x, fixed=True)
    dims = x.shape[axis % x.rank :]
    if x.open & set(range(axis % x.rank, x.rank)):
        raise Reject("open")
    scale, bias = d.weights(*dims, dtype=x.dtype), d.weights(*dims, dtype=x.dtype) if d.draw.chance(0.7) else None
    if d.opset >= 17 and d.draw.chance(0.5):
        epsilon = d.draw.one_of(None, 1e-3)
        return d.node("LayerNormalization", x, scale, bias, axis=axis, epsilon=epsilon)
    if d.opset >= 18:
        axes, attrs = [d.ints(-1)], {}
    else:
        axes, attrs = [], {"axes": [-1]}
    centred = d.node("Sub", x, d.node("ReduceMean", x, *axes, **attrs))
    square = d.draw.one_of(
        lambda: d.node("Mul", centred, centred), lambda: d.node("Pow", centred, d.const(2, x.dtype))
    )()
    variance = d.node("ReduceMean", square, *axes, **attrs)
    root = d.node("Sqrt", d.node("Add", variance, d.const(1e-3, x.dtype)))
    y = d.node("Div", centred, root)
    last = x.shape[-1]
    y = d.node("Mul", y, d.weights(last, dtype=x.dtype))
    return d.node("Add", y, d.weights(last, dtype=x.dtype))


@step(0.7)
def other_norms(d: Draft) -> Tensor:
    x = d.pick(lambda t: is_float(t.dtype) and t.rank > 2 and t.size > 0 and 1 not in t.open)
    c = x.shape[1]
    match d.draw.one_of("LpNormalization", "MeanVarianceNormalization", "RMSNormalization"):
        case "LpNormalization":
            return d.node("LpNormalization", x, axis=d.axis(x), p=d.draw.one_of(None, 1, 2))
        case "RMSNormalization" if d.opset >= 23:
            return d.node("RMSNormalization", x, d.weights(x.shape[-1], dtype=x.dtype), epsilon=1e-3)
        case _:
            assert c
            axes = d.draw.one_of([0, 2], [1, 2], [2])
            if min(math.prod(shape[a] for a in axes) for shape in x.shapes()) < 4:
                raise Reject("±1 for two numbers, however far off their mean is")
            return d.node("MeanVarianceNormalization", x, axes=axes)


@step(0.6)
def weighted_mean(d: Draft) -> Tensor:
    """x times its softmax, summed: an attention pool."""
    x = d.pick(lambda t: is_float(t.dtype) and t.rank > 1 and t.size > 0)
    weights = d.node("Softmax", x, axis=x.rank - 1)
    return d.node("ReduceSum", d.node("Mul", x, weights), d.ints(-1), keepdims=d.draw.one_of(None, 0))

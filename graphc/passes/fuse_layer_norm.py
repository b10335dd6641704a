"""LayerNormalization out of the means, differences and roots that exporters write it in."""

from __future__ import annotations

import numpy as np

from graphc.graph import Node, Value
from graphc.passes.rewrite import Rewrite, Skip, Sweep

fuse_layer_norm = Rewrite("fuse_layer_norm", makes="LayerNormalization")


@fuse_layer_norm.on("Div")
def standardized(node: Node, sweep: Sweep) -> Value | Skip | None:
    """(x - mean) / sqrt(mean((x - mean)²) + epsilon) over the last axes, as LayerNormalization with a scale of 1."""
    centered, deviation = node.inputs
    root = sweep.producer(deviation, "Sqrt")
    total = root and sweep.producer(root.inputs[0], "Add")
    variance = total and sweep.producer(total.inputs[0], "ReduceMean")
    square = variance and sweep.producer(variance.inputs[0], "Mul")
    difference = sweep.producer(centered, "Sub")
    if (
        not (total and variance and square and difference)
        or square.inputs[0] is not centered
        or square.inputs[1] is not centered
    ):
        return None
    x, mean = difference.inputs
    average, epsilon = sweep.producer(mean, "ReduceMean"), total.inputs[1]
    if average is None or average.inputs[0] is not x or not epsilon.is_const or epsilon.data.size != 1:
        return None
    axis = _first_axis(average)
    if axis is None or axis != _first_axis(variance):
        return Skip("the means are not over the same last axes")
    if x.dtype != np.float32 or not all(isinstance(d, int) for d in x.shape[axis:]) or x.type != node.output.type:
        return Skip(f"{x.type} is not float32 with last axes of known size")
    ones = sweep.constant(np.ones(x.shape[axis:]), x.dtype)
    attrs = {"axis": axis - len(x.shape), "epsilon": float(epsilon.data.reshape(-1)[0])}
    return sweep.remake(node, x, ones, op="LayerNormalization", attrs=attrs)


def _first_axis(mean: Node) -> int | None:
    """The axis from which on a mean is taken, if it is over the last axes and keeps them."""
    rank = len(mean.inputs[0].shape)
    axes = sorted(a % rank for a in mean.call.ints(1)) if mean.call.has(1) else list(range(rank))
    last = bool(axes) and axes == list(range(axes[0], rank))
    return axes[0] if last and mean.attrs["keepdims"] else None


@fuse_layer_norm.on("Mul")
def scale_of_standardized(node: Node, sweep: Sweep) -> Value | Skip | None:
    x, scale = node.inputs
    norm = _norm_before(node, sweep)
    if not isinstance(norm, Node):
        return norm
    if _bias_of(norm) is not None:
        return Skip("it has a bias already")
    merged = norm.inputs[1].data * scale.data
    return sweep.remake(node, norm.inputs[0], sweep.constant(merged), op="LayerNormalization", attrs=norm.attrs)


@fuse_layer_norm.on("Add")
def bias_of_standardized(node: Node, sweep: Sweep) -> Value | Skip | None:
    norm = _norm_before(node, sweep)
    if not isinstance(norm, Node):
        return norm
    bias, before = node.inputs[1], _bias_of(norm)
    if before is not None:
        bias = sweep.constant(before.data + bias.data)
    return sweep.remake(node, *norm.inputs[:2], bias, op="LayerNormalization", attrs=norm.attrs)


def _bias_of(norm: Node) -> Value | None:
    return norm.inputs[2] if len(norm.inputs) > 2 else None


def _norm_before(node: Node, sweep: Sweep) -> Node | Skip | None:
    """The LayerNormalization with constant scale and bias before a node whose second operand is as large as they are."""
    x, number = node.inputs
    norm = sweep.producer(x, "LayerNormalization")
    if norm is None or not number.is_const:
        return None
    if not all(v.is_const for v in norm.inputs[1:] if v is not None) or len(norm.outputs) > 1:
        return None
    if number.shape != x.shape[norm.attrs["axis"] % len(x.shape) :]:
        return Skip(f"a constant of shape {number.shape} is not one number per element of the rows")
    return norm if sweep.sole(x) else Skip(f"'{x.name}' is a result or read by others")

"""Fold per-channel affine maps (batch normalisation, scales and shifts by constants) into the layer before them.

After a Conv, ConvTranspose, Gemm or MatMul, y = scale·x + shift goes into weights and bias: W' = scale·W,
bias' = scale·bias + shift, computed in float64 and rounded once. Elsewhere a batch normalisation, or a chain of such
maps, becomes one Mul and one Add.
"""

from __future__ import annotations

import numpy as np

from graphc.dtypes import is_float
from graphc.graph import Node, Value
from graphc.passes.affine import AFFINE, Affine, along, as_affine
from graphc.passes.rewrite import Rewrite, Skip, Sweep

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")

fold_batch_norm = Rewrite("fold_batch_norm")


@fold_batch_norm.on(*AFFINE)
def fold_affine(node: Node, sweep: Sweep) -> Value | tuple[Value, ...] | Skip | None:
    if not is_float(node.output.dtype):
        return None
    total = as_affine(node, sweep)
    if not isinstance(total, Affine):
        return total
    total, links, refused = _chain(total, sweep)
    layer = sweep.producer(total.x, *LAYERS)
    new = _into(layer, total, node, sweep) if layer is not None else None
    if isinstance(new, Skip):
        refused = refused or new
        new = None
    if new is None and (node.op.name == "BatchNormalization" or total.operations < links):
        new = _mul_and_add(total, node, sweep)
    if new is None:
        return refused
    return (new, *node.outputs[1:])


def _chain(total: Affine, sweep: Sweep) -> tuple[Affine, int, Skip | None]:
    """The map together with the maps before it that only it reads; their number; why the next could not join."""
    links = 1
    while (node := sweep.producer(total.x, *AFFINE)) is not None:
        first = as_affine(node, sweep)
        merged = total.after(first) if isinstance(first, Affine) else None
        if merged is None:
            break
        if not sweep.sole(total.x):
            return total, links, _shared(total.x)
        total, links = merged, links + 1
    return total, links, None


def _shared(v: Value) -> Skip:
    return Skip(f"'{v.name}' is a result or read by others")


def _mul_and_add(total: Affine, node: Node, sweep: Sweep) -> Value:
    dtype, rank = node.output.dtype, len(node.output.shape)
    steps = [(op, c) for op, c in (("Mul", total.scale), ("Add", total.shift)) if c is not None]
    y = total.x
    for op, coefficients in steps:
        where = _place(node) if op == steps[-1][0] else {}
        y = sweep.add(op, y, sweep.constant(along(coefficients, total.axis, rank), dtype), **where)
    return y


def _place(node: Node) -> dict:
    """Names and source of a node that takes the place of another."""
    return {"name": node.name, "outputs": [node.output.name], "source": node.source}


# --- into a layer -----------------------------------------------------------------------------------------------------
def _into(layer: Node, total: Affine, node: Node, sweep: Sweep) -> Value | Skip | None:
    """The layer with the map in its weights and bias, in the place of `node`."""
    refused = _refusal(layer, total, sweep)
    if refused:
        return refused
    x, weights, *rest = layer.inputs
    if total.scale is not None:
        weights = _scaled(layer, weights, total.scale, sweep)
        if weights is None:
            return Skip(f"the scaled weights overflow {layer.output.dtype}")
    if layer.op.name == "MatMul":
        if len(x.shape) > 2 or len(weights.shape) > 2:
            return _matmul_of_stack(layer, weights, total, node, sweep)
        return sweep.add("Gemm", x, weights, _bias(layer, None, total, sweep), **_place(node))
    bias = _bias(layer, rest[0] if rest else None, total, sweep)
    attrs = {**layer.attrs, "beta": 1.0} if layer.op.name == "Gemm" else layer.attrs
    outputs = [node.output.name]
    return sweep.add(layer.op, x, weights, bias, name=layer.name, outputs=outputs, source=layer.source, **attrs)


def _channel_axis(layer: Node) -> int:
    return len(layer.output.shape) - 1 if layer.op.name == "MatMul" else 1


def _refusal(layer: Node, total: Affine, sweep: Sweep) -> Skip | None:
    if not sweep.sole(layer.output):
        return _shared(layer.output)
    x, weights, *rest = layer.inputs
    if len(x.shape) < 2 or len(weights.shape) < 2:
        return Skip("one operand is a vector")
    channel = _channel_axis(layer)
    if total.axis not in (None, channel):
        return Skip(f"it varies along axis {total.axis}, the channels of {layer.op.name} are axis {channel}")
    if not weights.is_const and total.scale is not None:
        return Skip(f"weights '{weights.name}' are not constant")
    if any(v is not None and not v.is_const for v in rest):
        return Skip(f"bias '{rest[0].name}' is not constant")
    if not isinstance(layer.output.shape[channel], int):
        return Skip(f"the number of channels, {layer.output.shape[channel]}, is symbolic")
    return None


def _matmul_of_stack(layer: Node, weights: Value, total: Affine, node: Node, sweep: Sweep) -> Value | Skip | None:
    """A MatMul of rank 3 and more has no bias: the scale goes into the weights, the shift stays an Add."""
    if total.scale is None:
        return Skip("a MatMul of more than two axes has no bias")
    x = layer.inputs[0]
    if total.shift is None:
        return sweep.add("MatMul", x, weights, name=layer.name, outputs=[node.output.name], source=layer.source)
    product = sweep.add("MatMul", x, weights, source=layer.source)
    return sweep.add("Add", product, sweep.constant(total.shift, node.output.dtype), **_place(node))


def _scaled(layer: Node, weights: Value, scale: np.ndarray, sweep: Sweep) -> Value | None:
    """scale·weights along the output channels, in the weights' dtype; None where that overflows.

    Conv has weights [M, C/group, …], Gemm [K, N] or [N, K], MatMul […, K, N]. ConvTranspose has [C, M/group, …]: the
    scales of a group repeat over the C/group input channels of that group.
    """
    w = weights.data
    if scale.ndim and layer.op.name == "ConvTranspose":
        group = layer.attrs["group"]
        scale = np.repeat(scale.reshape(group, -1), w.shape[0] // group, axis=0)
        scale = scale.reshape(*w.shape[:2], *[1] * (w.ndim - 2))
    elif scale.ndim and (layer.op.name == "Conv" or layer.attrs.get("transB")):
        scale = along(scale, 0, w.ndim)
    with np.errstate(all="ignore"):
        out = np.multiply(w, scale, out=np.empty(w.shape, w.dtype), dtype=np.float64, casting="unsafe")
    return sweep.constant(out) if np.isfinite(out).all() or not np.isfinite(w).all() else None


def _bias(layer: Node, old: Value | None, total: Affine, sweep: Sweep) -> Value | None:
    """scale·bias + shift, for Gemm with its beta; no bias where there is neither an old one nor a shift."""
    if old is None and total.shift is None:
        return None
    channels = layer.output.shape[_channel_axis(layer)]
    bias = np.zeros(channels) if old is None else old.data.astype(np.float64) * layer.attrs.get("beta", 1.0)
    if total.scale is not None:
        bias = bias * total.scale
    if total.shift is not None:
        bias = bias + total.shift
    return sweep.constant(bias, layer.output.dtype)

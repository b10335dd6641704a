"""Convolutions of dequantized bytes become convolutions of the bytes, scaled afterwards, and what lies between them stays in bytes:

    Conv(x_scale (x - x_zero), w_scale (w - w_zero)) + b = x_scale w_scale ConvInteger(x, w, x_zero, w_zero) + b,

where w is constant. The sums are then exact. What follows up to the next QuantizeLinear is multiplied by the reciprocal of its scale
beforehand, which may move a result by a step where it lies halfway between two. It runs before constants are folded, which would
make floats of w, for backends that have the convolution (graphc/ops/byte_conv.py).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from graphc.dtypes import is_float
from graphc.graph import Node, Value
from graphc.passes.byte_products import BYTES, MOST_ROWS, Codes, codes_of, is_single
from graphc.passes.means import MEANS, summing
from graphc.passes.rewrite import Rewrite, Skip, Sweep

byte_convolutions = Rewrite("byte_convolutions", makes="ConvBytes")

FLOAT32 = np.dtype(np.float32)
MOVES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "DepthToSpace", "SpaceToDepth")
MOST_TAPS = 500  # of a mean: sums of as many bytes are exact in float32
CHAIN = 8  # operators between a convolution and the QuantizeLinear behind it


@byte_convolutions.on("Conv")
def of_dequantized(node: Node, sweep: Sweep) -> Value | Skip | None:
    x, w = (codes_of(v, sweep) for v in node.inputs[:2])
    if x is None or w is None or not w.values.is_const:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    b = None if bias is None else _floats(bias, sweep)
    reason = _refused(x, w)
    if not reason and bias is not None and b is None:
        reason = "its bias is no constant"
    if reason:
        return Skip(reason)
    return _summed(sweep, x, w, b, {k: v for k, v in node.attrs.items() if k != "exact"}, node)


def _summed(sweep: Sweep, x: Codes, w: Codes, b: np.ndarray | None, attrs: dict, node: Node | None = None) -> Value:
    """The convolution of the bytes, scaled, and its bias; in the place of a node."""
    last = sweep.add if node is None else partial(_in_place, node, sweep)
    zeros = (_zero(codes, sweep) for codes in (x, w))
    total = sweep.add("Cast", sweep.add("ConvInteger", x.values, w.values, *zeros, **attrs), to=FLOAT32)
    shape = (-1, *[1] * (len(w.values.shape) - 2))
    with np.errstate(all="ignore"):  # scales whose product is beyond float32, as it is where it is computed
        scale = x.scale.data.reshape(()) * w.scale.data
    scale = scale.reshape(() if is_single(w.scale) else shape)
    if b is None:
        return last("Mul", total, sweep.constant(scale))
    return last("Add", sweep.add("Mul", total, sweep.constant(scale)), sweep.constant(b.reshape(shape)))


def _in_place(node: Node, sweep: Sweep, op: str, *operands: Value) -> Value:
    return sweep.remake(node, *operands, op=op)


@byte_convolutions.on("ConvTranspose")
def of_patches(node: Node, sweep: Sweep) -> Value | Skip | None:
    """A transposed convolution whose windows lie side by side gives each pixel a patch: a convolution by one pixel gives its elements as
    channels."""
    x, w = (codes_of(v, sweep) for v in node.inputs[:2])
    if x is None or w is None or not w.values.is_const:
        return None
    size = _patch(node, w)
    if not size:
        return Skip("its windows are no squares of known size side by side")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    b = None if bias is None else _floats(bias, sweep)
    turned = _as_pixels(w, size, sweep)
    reason = "its scales are not those of output channels" if turned is None else _refused(x, turned)
    if not reason and bias is not None and b is None:
        reason = "its bias is no constant"
    if reason or turned is None:
        return Skip(reason)
    channels = _summed(sweep, x, turned, None if b is None else np.repeat(b, size * size), {})
    return sweep.remake(node, channels, op="DepthToSpace", attrs={"blocksize": size, "mode": "CRD"})


def _as_pixels(w: Codes, size: int, sweep: Sweep) -> Codes | None:
    """Weights [in, out, size, size] as those of a convolution by one pixel, [out · size², in, 1, 1]."""

    def each(v: Value | None) -> Value | None:
        return v if v is None or is_single(v) else sweep.constant(np.repeat(v.data, size * size))

    if not all(v is None or v.is_const and (is_single(v) or w.axis % 4 == 1) for v in (w.scale, w.zero)):
        return None
    scale = each(w.scale)
    assert scale is not None
    weights = w.values.data.transpose(1, 2, 3, 0).reshape(-1, w.values.shape[0], 1, 1)
    return Codes(sweep.constant(weights), w.dtype, scale, each(w.zero), 0)


def _patch(node: Node, w: Codes) -> int:
    """The side of the windows of a transposed convolution that lie side by side, or 0."""
    a, shape = node.attrs, w.values.shape
    if len(shape) != 4 or a["group"] != 1 or shape[2] != shape[3] or a["output_shape"] is not None:
        return 0
    plain = a["auto_pad"] in ("NOTSET", "VALID") and not any((*(a["pads"] or ()), *(a["output_padding"] or ())))
    side_by_side = tuple(a["strides"] or (1, 1)) == shape[2:] and set(a["dilations"] or (1,)) == {1}
    return shape[2] if plain and side_by_side else 0


def _floats(v: Value, sweep: Sweep) -> np.ndarray | None:
    """A vector of constants, also one of dequantized integers."""
    if v.is_const:
        return v.data if v.dtype == FLOAT32 else None
    made = sweep.producer(v, "DequantizeLinear")
    if made is None or not all(u.is_const for u in made.operands) or made.attrs["block_size"] or v.dtype != FLOAT32:
        return None
    return made.op.reference(*(u.data for u in made.operands), **made.attrs)


def _refused(x: Codes, w: Codes) -> str:
    """Why it stays a convolution of floats, or ''."""
    if not x.scale.is_const or not w.scale.is_const or not x.scale.dtype == w.scale.dtype == FLOAT32:
        return "its scales are no constants in float32"
    if any(v is not None and not v.is_const for v in (x.zero, w.zero)):
        return "its zero points are no constants"
    if not is_single(x.scale) or not (is_single(w.scale) or w.axis % len(w.values.shape) == 0):
        return "its scales are not those of a whole operand or of output channels"
    return "" if math.prod(w.values.shape[1:]) <= MOST_ROWS else "its sums may leave int32"


def _zero(codes: Codes, sweep: Sweep) -> Value:
    return sweep.constant(0, codes.dtype) if codes.zero is None else codes.zero


@byte_convolutions.on(*MEANS)
def of_means(node: Node, sweep: Sweep) -> Value | Skip | None:
    """A mean of dequantized bytes is a convolution of each channel by ones."""
    x = codes_of(node.inputs[0], sweep)
    if x is None or x.values.is_const:
        return None
    if not is_single(x.scale) or not x.scale.is_const or x.scale.dtype != FLOAT32 or _number(x.zero) is None:
        return Skip("it has not one scale and one zero point")
    found = summing(node)
    if isinstance(found, str):
        return Skip(found)
    window, attrs = found
    if math.prod(window) > MOST_TAPS:
        return Skip("its window is large")
    ones = sweep.constant(np.ones((attrs["group"], 1, *window), np.int8))
    zeros = _zero(x, sweep), sweep.constant(0, np.int8)
    total = sweep.add("Cast", sweep.add("ConvInteger", x.values, ones, *zeros, **attrs), to=FLOAT32)
    scale = x.scale.data.astype(np.float64).reshape(()) / math.prod(window)
    return sweep.remake(node, total, sweep.constant(scale, FLOAT32), op="Mul")


# --- what lies between ------------------------------------------------------------------------------------------------
@byte_convolutions.on("MaxPool", *MOVES)
def of_bytes(node: Node, sweep: Sweep) -> Value | None:
    """What moves or compares elements does it before they are dequantized."""
    codes = codes_of(node.inputs[0], sweep)
    if codes is None or codes.values.is_const or len(node.outputs) > 1 or not is_single(codes.scale):
        return None
    if node.op.name == "MaxPool" and not (codes.scale.is_const and codes.scale.data > 0):
        return None
    moved = sweep.add(node.op, codes.values, *node.inputs[1:], **node.attrs)
    return sweep.remake(node, *_numbers(codes, moved), op="DequantizeLinear", attrs={})


def _numbers(codes: Codes, values: Value) -> tuple[Value, ...]:
    return (values, codes.scale) if codes.zero is None else (values, codes.scale, codes.zero)


@byte_convolutions.on("QuantizeLinear")
def quantized_again(node: Node, sweep: Sweep) -> Value | None:
    """Bytes that were dequantized with the same scale and zero point."""
    return _bytes_of(node.inputs[0], node, sweep)


@byte_convolutions.on("QuantizeLinear")
def part_quantized_again(node: Node, sweep: Sweep) -> Value | None:
    """A part of them. (One that stays a float is left to whoever reads it in place: graphc/passes/fuse_attention.py.)"""
    split = sweep.producer(node.inputs[0], "Split")
    whole = None if split is None else _bytes_of(split.inputs[0], node, sweep)
    if split is None or whole is None:
        return None
    parts = sweep.add("Split", whole, *split.inputs[1:], outputs=len(split.outputs), **split.attrs)
    return parts if isinstance(parts, Value) else parts[split.outputs.index(node.inputs[0])]


def _bytes_of(v: Value, node: Node, sweep: Sweep) -> Value | None:
    codes = codes_of(v, sweep)
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if codes is None or not scale.is_const or not codes.scale.is_const or not is_single(scale) or not _plain(node):
        return None
    same = node.output.type is not None and node.output.dtype == codes.dtype and is_single(codes.scale)
    same = same and scale.data.item() == codes.scale.data.item() != 0
    return codes.values if same and _number(zero) == _number(codes.zero) is not None else None


def _number(zero: Value | None) -> int | None:
    """None where it is not known."""
    return 0 if zero is None else zero.data.item() if zero.is_const and zero.data.size == 1 else None


def _plain(node: Node) -> bool:
    """A QuantizeLinear of one scale in float32."""
    scale = node.inputs[1]
    return scale.dtype == FLOAT32 and not node.attrs["block_size"] and node.attrs["precision"] in (None, FLOAT32)


@byte_convolutions.on("QuantizeLinear")
def before_it_is_moved(node: Node, sweep: Sweep) -> Value | None:
    """Patches are made of bytes."""
    moved = sweep.producer(node.inputs[0], "DepthToSpace")
    if moved is None or not sweep.sole(node.inputs[0]) or not _is_whole(node):
        return None
    return sweep.remake(node, _requantized(moved.inputs[0], node, sweep), op="DepthToSpace", attrs=dict(moved.attrs))


@byte_convolutions.on("QuantizeLinear")
def of_parts(node: Node, sweep: Sweep) -> Value | None:
    """A concatenation of dequantized bytes is one of bytes."""
    joined = sweep.producer(node.inputs[0], "Concat")
    if joined is None or not sweep.sole(node.inputs[0]) or not _is_whole(node):
        return None
    if not all(codes_of(v, sweep) for v in joined.operands):
        return None
    parts = [_bytes_of(v, node, sweep) or _requantized(v, node, sweep) for v in joined.operands]
    return sweep.remake(node, *parts, op="Concat", attrs=dict(joined.attrs))


def _requantized(v: Value, node: Node, sweep: Sweep) -> Value:
    return sweep.add("QuantizeLinear", v, *node.inputs[1:], **node.attrs)


def _is_whole(node: Node) -> bool:
    """Has a QuantizeLinear a known scale above 0, and gives bytes?"""
    scale, x = node.inputs[1], node.inputs[0]
    if not (scale.is_const and is_single(scale) and _plain(node) and x.type is not None and x.dtype == FLOAT32):
        return False
    return bool(scale.data > 0) and node.output.type is not None and node.output.dtype.name in BYTES


@byte_convolutions.on("QuantizeLinear")
def scaled_before(node: Node, sweep: Sweep) -> Value | None:
    """x / scale of sums of products with constants: the constants are divided."""
    if not _is_whole(node) or node.inputs[1].data == 1:
        return None
    x = _divided(node.inputs[0], float(node.inputs[1].data.item()), sweep, CHAIN)
    if x is None or x.is_const:
        return None
    return sweep.remake(node, x, sweep.constant(np.float32(1)), *node.inputs[2:])


def _divided(v: Value, by: float, sweep: Sweep, most: int) -> Value | None:
    """v / by, where that needs no division; None where it does. Values that others read stay as they are."""
    if v.is_const:
        return _quotient(v, by, sweep)
    made = sweep.producer(v, "Mul", "Add", "Relu", "Clip", "DequantizeLinear")
    if made is None or not most or v.dtype != FLOAT32:
        return None
    if made.op.name == "DequantizeLinear":
        codes = codes_of(v, sweep)
        scale = None if codes is None or not codes.scale.is_const else _quotient(codes.scale, by, sweep)
        if codes is None or scale is None:
            return None
        return sweep.add("DequantizeLinear", codes.values, scale, *made.inputs[2:], **made.attrs)
    if not sweep.sole(v):
        return None
    if made.op.name == "Mul":
        first, second = made.operands
        factor, other = (second, first) if second.is_const else (first, second)
        quotient = _quotient(factor, by, sweep) if factor.is_const else None
        return None if quotient is None else sweep.add("Mul", other, quotient)
    parts = [None if u is None else _divided(u, by, sweep, most - 1) for u in made.inputs]
    if any(part is None and u is not None for part, u in zip(parts, made.inputs)):
        return None
    return sweep.add(made.op, *parts, **made.attrs)


def _quotient(v: Value, by: float, sweep: Sweep) -> Value | None:
    """A constant of floats, unless that leaves the range of float32."""
    if not is_float(v.dtype):
        return None
    quotient = (v.data.astype(np.float64) / by).astype(np.float32)
    exact = np.isfinite(quotient) & ((np.abs(quotient) >= np.finfo(np.float32).tiny) | (v.data == 0))
    return sweep.constant(quotient) if exact.all() else None

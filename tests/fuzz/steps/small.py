"""Floats of 8 bits and less, integers of 2 and 4: casts, what moves them, and quantisation in blocks."""

from __future__ import annotations

import numpy as np
from onnx import helper

from ..draft import Draft, Reject, Tensor
from ..draws import SMALL, integer_range, is_float
from . import step

SCALES = (0.25, 0.5, 1.0, 0.125)


def number(dtype: np.dtype) -> int:
    return helper.np_dtype_to_tensor_dtype(dtype)


def small_type(d: Draft, integers: bool | None = None) -> np.dtype:
    """One that the opset has."""
    fits = [
        t
        for t, opset in SMALL.items()
        if opset <= d.opset and (integers is None or integers == bool(integer_range(t))) and t.name != "float8_e8m0fnu"
    ]
    if not fits:
        raise Reject("newer")
    return d.draw.one_of(*fits)


@step(2, opset=19)
def narrowed(d: Draft) -> Tensor:
    """To a small type; what rounds must be exact before it."""
    to = small_type(d)
    x = d.floats() if d.draw.chance(0.8) else d.pick(lambda t: integer_range(t.dtype) is not None)
    if bounds := integer_range(to):
        least, most = integer_range(x.dtype) or bounds
        x = d.node("Clip", x, d.const(max(bounds[0], least), x.dtype), d.const(min(bounds[1], most), x.dtype))
    saturate = None if bounds else d.draw.one_of(None, None, 0, 1)
    return d.node("Cast", x, to=number(to), saturate=saturate)


def small_value(d: Draft) -> Tensor:
    fits = [t for t in d.values if t.dtype in SMALL]
    return d.draw.one_of(*fits) if fits else narrowed(d)


@step(2, opset=19)
def widened(d: Draft) -> Tensor:
    x = small_value(d)
    return d.node("Cast", x, to=d.draw.one_of(1, 1, 1, 10, 11, 16, *([6] if integer_range(x.dtype) else [])))


@step(1, opset=19)
def read_small(d: Draft) -> Tensor:
    """A weight of a small type, moved, then read."""
    dtype = small_type(d)
    w = d.weights(*d.draw.shape(d.draw.count(1, 3), 200), dtype=dtype, low=-8, high=8)
    if d.draw.chance(0.5):
        w = d.node("Transpose", w) if d.draw.chance(0.5) else d.node("Reshape", w, d.ints(-1))
    return d.node("Cast", w, to=1)


@step(2, opset=21)
def blocks(d: Draft) -> Tensor:
    """Weights with a scale for each block of an axis, as language models have them; often a product behind."""
    dtype = d.draw.one_of(np.dtype("uint8"), np.dtype("int8"), *(t for t in SMALL if t.name in ("int4", "uint4")))
    size = d.draw.one_of(2, 4, 16, 32)
    count, n = d.draw.count(1, 3), d.draw.size(17)
    k = size * count
    axis = d.draw.one_of(0, 1, -1)
    shape, scales = ((k, n), (count, n)) if axis == 0 else ((n, k), (n, count))
    kind = d.draw.one_of(np.dtype("float32"), np.dtype("float32"), np.dtype("float16"))
    w = d.weights(*shape, dtype=dtype, low=-100, high=100)
    scale = d.const(d.draw.rng.choice(SCALES, scales), kind)
    zero = d.weights(*scales, dtype=dtype, low=0, high=7) if d.draw.chance(0.5) else None
    w = d.node("DequantizeLinear", w, scale, zero, axis=axis, block_size=size)
    if d.draw.chance(0.3):
        return w
    w = w if axis == 0 else d.node("Transpose", w)
    fits = [t for t in d.values if t.dtype == w.dtype and t.rank and t.shape[-1] == k and t.rank - 1 not in t.open]
    return d.node("MatMul", d.draw.one_of(*fits) if fits else d.operand(w.dtype, (2, k), -1, 1), w)


@step(2, opset=21)
def quantized_blocks(d: Draft) -> Tensor:
    """An axis quantised in blocks, to any type, and back."""
    x = d.pick(lambda t: is_float(t.dtype) and t.rank > 1 and t.size > 0 and not t.open)
    axis = d.axis(x)
    n = x.shape[axis]
    size = d.draw.one_of(*(b for b in (1, 2, 3, 4, 8, n) if b <= n))
    dims = list(x.shape)
    dims[axis] = -(-n // size)
    dtype = d.draw.one_of(
        *map(np.dtype, ("int8", "uint8", "int16", "uint16")), *(t for t, o in SMALL.items() if o in (19, 21))
    )
    scale = d.const(d.draw.rng.choice(SCALES, dims), x.dtype)
    zero = d.const(np.zeros(dims) if not integer_range(dtype) else d.draw.array(dtype, dims, 0, 5), dtype)
    y = d.node("QuantizeLinear", x, scale, zero, axis=axis, block_size=size)
    return d.node("DequantizeLinear", y, scale, zero, axis=axis, block_size=size)


@step(1.5, opset=19)
def by_tensor(d: Draft) -> Tensor:
    """To a small type by a scale for all, or for each place of an axis; its dtype from a zero point or an attribute."""
    x = d.pick(lambda t: is_float(t.dtype) and t.size > 0)
    dtype = small_type(d)
    axis, scale = None, d.const(d.draw.one_of(*SCALES), x.dtype)
    if x.rank > 1 and d.draw.chance(0.4):
        axis = d.axis(x, fixed=True)
        scale = d.const(d.draw.rng.choice(SCALES, x.shape[axis]), x.dtype)
    if d.opset >= 21 and d.draw.chance(0.4):
        y = d.node("QuantizeLinear", x, scale, axis=axis, output_dtype=number(dtype))
    else:
        y = d.node("QuantizeLinear", x, scale, d.const(np.zeros(scale.shape), dtype), axis=axis)
    return d.node("DequantizeLinear", y, scale, axis=axis) if d.draw.chance(0.6) else y


@step(0.7, opset=19)
def moved(d: Draft) -> Tensor:
    """Small values under another shape: what ONNX lets them be used for besides casts."""
    x = small_value(d)
    match d.draw.one_of("Identity", "Reshape", "Transpose", "Unsqueeze", "Flatten"):
        case "Reshape" if x.size and not x.open:
            return d.node("Reshape", x, d.ints(-1))
        case "Transpose" if x.rank > 1:
            return d.node("Transpose", x, perm=d.draw.shuffled(range(x.rank)))
        case "Unsqueeze" if x.rank < 8:
            return d.node("Unsqueeze", x, d.ints(0))
        case "Flatten":
            return d.node("Flatten", x)
        case _:
            return d.node("Identity", x)

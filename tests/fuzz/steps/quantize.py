"""Quantisation: to integers and back, by tensor and by axis, and products between."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Reject, Tensor
from ..draws import is_float
from . import step
from .images import image

NARROW = ("uint8", "int8")
SCALES = (0.25, 0.125, 0.5, 0.1, 0.02, 0.037)


def quantized(d: Draft, x: Tensor, dtype: str, scale: float | None = None) -> Tensor:
    scale = scale or d.draw.one_of(*SCALES)
    zero = d.const(d.draw.count(0, 20), dtype) if d.draw.chance(0.7) or dtype != "uint8" else None
    return d.node("QuantizeLinear", x, d.const(scale, x.dtype), zero)


def dequantized(d: Draft, x: Tensor) -> Tensor:
    zero = d.const(d.draw.count(0, 20), x.dtype) if d.draw.chance(0.6) else None
    return d.node("DequantizeLinear", x, d.const(d.draw.one_of(*SCALES), np.float32), zero)


@step(2)
def there_and_back(d: Draft) -> Tensor:
    x = d.floats(dtype="float32")
    return dequantized(d, quantized(d, x, d.draw.one_of(*NARROW)))


@step(1)
def by_axis(d: Draft) -> Tensor:
    x = d.pick(lambda t: t.dtype.name in ("float32", *NARROW) and t.rank > 1 and t.size > 0)
    axis = d.axis(x, fixed=True)
    n = x.shape[axis]
    scale = d.const(d.draw.rng.choice(SCALES, n), np.float32)
    dtype = d.draw.one_of(*NARROW) if is_float(x.dtype) else x.dtype
    zero = d.const(d.draw.array(dtype, (n,), 0, 20)) if d.draw.chance(0.7) or dtype != "uint8" else None
    return d.node("QuantizeLinear" if is_float(x.dtype) else "DequantizeLinear", x, scale, zero, axis=axis)


@step(0.7)
def dynamic(d: Draft) -> tuple:
    return d.node("DynamicQuantizeLinear", d.floats(dtype="float32"), outputs=3)


@step(1)
def from_bytes(d: Draft) -> Tensor:
    """Bytes of an image, scaled."""
    x = d.pick(lambda t: t.dtype.name in NARROW)
    return dequantized(d, x)


@step(0.8)
def linear_product(d: Draft) -> Tensor:
    m, k, n = d.draw.size(17), d.draw.size(17), d.draw.size(17)
    a, b = (d.draw.one_of(*NARROW) for _ in range(2))
    x, w = d.operand(a, (m, k), 0, 100), d.operand(b, (k, n), -50, 50)

    def scale() -> Tensor:
        return d.const(d.draw.one_of(0.25, 0.125, 0.5), np.float32)

    out = a
    return d.node(
        "QLinearMatMul",
        x,
        scale(),
        d.const(d.draw.count(0, 20), a),
        w,
        scale(),
        d.const(0, b),
        d.const(8.0, np.float32),
        d.const(3, out),
    )


@step(0.8)
def linear_conv(d: Draft) -> Tensor:
    x = image(d, (4,), dtype=np.dtype("uint8"))
    c, out = x.shape[1], d.draw.one_of(1, 4, 8)
    if min(min(s[2:]) for s in x.shapes()) < 2:
        raise Reject("small")
    w = d.const(d.draw.array("int8", (out, c, 2, 2), -20, 20))
    y_scale = d.const(d.draw.one_of(4.0, 16.0), np.float32)
    bias = d.const(d.draw.array("int32", (out,), -500, 500)) if d.draw.chance(0.5) else None
    pads = d.draw.one_of(None, [1] * 4)
    return d.node(
        "QLinearConv", x, d.const(0.5, np.float32), d.const(d.draw.count(0, 20), "uint8"), w, d.const(0.25, np.float32),
        d.const(0, "int8"), y_scale, d.const(d.draw.count(0, 9), "uint8"), bias, pads=pads,
    )  # fmt: skip


@step(0.6)
def integer_conv(d: Draft) -> Tensor:
    x = image(d, (4,), dtype=np.dtype("uint8"))
    out = d.draw.one_of(1, 4, 8)
    if min(min(s[2:]) for s in x.shapes()) < 3:
        raise Reject("small")
    w = d.const(d.draw.array("uint8", (out, x.shape[1], 3, 3), 0, 255))
    zero = [d.const(d.draw.count(0, 20), "uint8") for _ in range(d.draw.count(0, 2))]
    return d.node("ConvInteger", x, w, *zero, pads=d.draw.one_of(None, [1] * 4))


@step(1)
def quantized_layer(d: Draft) -> Tensor:
    """Dequantised operands around a convolution or a product, and quantised again."""
    x = d.pick(lambda t: t.dtype.name in NARROW and t.rank in (2, 4) and t.size > 0 and 1 not in t.open)
    y = dequantized(d, x)
    out = d.draw.one_of(4, 8)
    w = d.const(d.draw.array("int8", (out, x.shape[1], *[1] * (x.rank - 2)), -50, 50))
    w = d.node("DequantizeLinear", w, d.const(0.02, np.float32), d.const(0, "int8"))
    y = d.node("Conv", y, w) if x.rank == 4 else d.node("Gemm", y, w, transB=1)
    return quantized(d, d.node("Relu", y) if d.draw.chance(0.5) else y, d.draw.one_of(*NARROW), 0.5)

"""Complex numbers of com.microsoft, with their two parts on the last axis: products and Fourier transforms."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Tensor
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype, require_same_dtype
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import in_float32
from graphc.ops.signal import as_complex
from graphc.types import Shape, TensorType, broadcast


# --- ComplexMul, ComplexMulConj ---------------------------------------------------------------------------------------
def _product_type(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 1)
    for i in (0, 1):
        if not call.rank(i) or differ(call.shape(i)[-1], 2):
            raise call.fail(
                f"'{call.op.inputs[i]}' has shape {call.shape(i)}", "its last axis has two parts of a number"
            )
    try:
        return [TensorType(dtype, broadcast(call.shape(0), call.shape(1)))]
    except ValueError as error:
        raise call.fail(str(error)) from None


def _product(sign: int):
    def reference(a, b):
        (ar, ai), (br, bi) = (a[..., 0], a[..., 1]), (b[..., 0], sign * b[..., 1])
        return np.stack([ar * br - ai * bi, ai * br + ar * bi], -1)

    def expand(b: Builder, call: Call) -> Value:
        (ar, ai), (br, bi) = (b.add("Split", v, b.constant([1, 1], np.int64), axis=-1, outputs=2) for v in call.inputs)
        first, second = ("Sub", "Add") if sign > 0 else ("Add", "Sub")
        real = b.add(first, b.add("Mul", ar, br), b.add("Mul", ai, bi))
        imaginary = b.add(second, b.add("Mul", ai, br), b.add("Mul", ar, bi))
        return b.add("Concat", real, imaginary, axis=-1)

    return reference, expand


for _name, _sign in (("ComplexMul", 1), ("ComplexMulConj", -1)):
    _reference, _expand = _product(_sign)
    contrib(
        _name,
        "a b",
        _product_type,
        in_float32(_reference),
        _expand,
        [Case((Tensor((3, 4, 2)), Tensor((3, 4, 2)))), Case((Tensor((3, 4, 2)), Tensor((4, 2))))],
    )


# --- Rfft, Irfft: over the last axes, scaled by nothing there and by 1/n back ----------------------------------------
def _signal(call: Call, shape: Shape) -> None:
    """Raises TypeRuleError unless the last axes of a tensor of complex or real numbers of that shape are a signal."""
    count = call.attrs.signal_ndim
    if not 1 <= count <= len(shape):
        raise call.fail(f"signal_ndim is {count}, of {len(shape)} axes")
    if 0 in shape[-count:]:
        raise call.fail(f"'x' has shape {call.shape(0)}: a signal of no points")
    if call.attrs.normalized or not call.attrs.onesided:
        raise call.fail("only onesided=1 and normalized=0 are supported")


def _rfft_type(call: Call) -> list[TensorType]:
    dtype, x = require_dtype(call, 0, FLOAT_NAMES), call.shape(0)
    _signal(call, x)
    return [TensorType(dtype, (*x[:-1], x[-1] // 2 + 1, 2))]


def _irfft_type(call: Call) -> list[TensorType]:
    dtype, x = require_dtype(call, 0, FLOAT_NAMES), call.shape(0)
    if not x or differ(x[-1], 2):
        raise call.fail(f"'x' has shape {x}", "its last axis has two parts of a number")
    _signal(call, x[:-1])
    if x[-2] == 1:
        raise call.fail(f"'x' has shape {x}: one point gives a signal of none", "it takes two points or more")
    return [TensorType(dtype, (*x[:-2], 2 * (x[-2] - 1)))]


def _rfft(x, signal_ndim, **attrs):
    y = np.fft.rfftn(x, axes=range(x.ndim - signal_ndim, x.ndim))
    return np.stack([y.real, y.imag], -1)


def _irfft(x, signal_ndim, **attrs):
    z = as_complex(x)
    return np.fft.irfftn(z, axes=range(z.ndim - signal_ndim, z.ndim))


def _dft(b: Builder, x: Value, axis: int, **attrs) -> Value:
    return b.add("DFT", x, None, b.constant(axis, np.int64), **attrs)


@where_static
def _expand_rfft(b: Builder, call: Call) -> Value:
    x = call.inputs[0]
    last = len(x.shape) - 1
    y = _dft(b, b.add("Unsqueeze", x, b.constant([-1], np.int64)), last, onesided=True)
    for axis in range(last - call.attrs.signal_ndim + 1, last):
        y = _dft(b, y, axis)
    return y


@where_static
def _expand_irfft(b: Builder, call: Call) -> Value:
    """The other half of the last axis is the first one, mirrored and conjugate."""
    x = call.inputs[0]
    last = len(x.shape) - 2
    for axis in range(last - call.attrs.signal_ndim + 1, last):
        x = _dft(b, x, axis, inverse=True)
    count = x.shape[last]
    if count > 2:
        mirror = b.constant(np.arange(count - 2, 0, -1), np.int64)
        x = b.add(
            "Concat", x, b.add("Mul", b.add("Gather", x, mirror, axis=last), b.constant([1, -1], x.dtype)), axis=last
        )
    y = _dft(b, x, last, inverse=True)
    return b.add("Gather", y, b.constant(0, np.int64), axis=last + 1)


_FFT = {
    "signal_ndim": Attr(int, 1),
    "onesided": Attr(bool, True, settled=True),
    "normalized": Attr(bool, False, settled=True),
}
contrib("Rfft", "x", _rfft_type, in_float32(_rfft), _expand_rfft, [Case((Tensor((3, 8)),)), Case((Tensor((2, 4, 6)),), {"signal_ndim": 2})], _FFT)  # fmt: skip
contrib("Irfft", "x", _irfft_type, in_float32(_irfft), _expand_irfft, [Case((Tensor((3, 5, 2)),), {"signal_ndim": 1}), Case((Tensor((2, 4, 4, 2)),), {"signal_ndim": 2})], _FFT | {"signal_ndim": Attr(int)})  # fmt: skip

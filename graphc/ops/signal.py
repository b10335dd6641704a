"""Operators of signals: Fourier transforms, windows, mel filters. Complex numbers are a last axis of size 2."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import FLOATS, Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops._fourier import PAIRS, REAL, Transform, transform
from graphc.ops.movement import same_dim
from graphc.ops.precision import widen
from graphc.types import Dim, TensorType, may_be, number, prod

_FLOAT32 = Attr("dtype", np.dtype(np.float32))


def as_complex(x: np.ndarray) -> np.ndarray:
    """The numbers of [..., 1] (real) or [..., 2] (complex)."""
    if x.shape[-1] == 1:
        return x[..., 0]
    z = np.empty(x.shape[:-1], np.result_type(x, np.complex64))
    z.real, z.imag = x[..., 0], x[..., 1]  # 1j * inf has a real part that is NaN
    return z


def as_pairs(z: np.ndarray) -> np.ndarray:
    """Complex numbers as [..., 2]."""
    return np.stack([z.real, z.imag], -1)


def _scalar(call: Call, i: int) -> int:
    value = call.ints(i)
    if len(value) != 1:
        raise call.fail(f"{call.op.inputs[i]} must be one number, not {value}")
    return value[0]


# --- DFT, STFT --------------------------------------------------------------------------------------------------------
def _dft_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if x.rank < 2 or not may_be(x.shape[-1], 1, 2):
        raise call.fail("takes [..., signal, 1] or [..., signal, 2]")
    axis = call.axis_of(_scalar(call, 2) if call.has(2) else -2, x.rank)
    if axis == x.rank - 1:
        raise call.fail("the last axis holds the real and imaginary parts", f"use an axis from 0 to {x.rank - 2}")
    if call.attrs.onesided and not may_be(x.shape[-1], 2 if call.attrs.inverse else 1):
        raise call.fail(f"onesided takes {'complex' if call.attrs.inverse else 'real'} signals, not {x}")
    shrink = call.attrs.onesided and call.attrs.inverse
    length = _dft_length(call, axis)
    if isinstance(length, int) and length < 1:
        raise call.fail(f"dft_length is {length}")
    dims = list(x.shape)
    dims[axis] = length // 2 + 1 if call.attrs.onesided and not call.attrs.inverse else length
    dims[-1] = 1 if shrink else 2
    return [x.with_shape(dims)]


def _dft_length(call: Call, axis: int) -> Dim:
    if call.has(1):
        return _scalar(call, 1)
    size: Dim = call.shape(0)[axis]
    return (size - 1) * 2 if call.attrs.onesided and call.attrs.inverse else size


def _dft(x, dft_length=None, axis=None, *, inverse, onesided):
    axis = (-2 if axis is None else int(np.reshape(axis, ()))) % x.ndim
    n = None if dft_length is None else int(np.reshape(dft_length, ()))
    z = as_complex(widen(x))
    if z.shape[axis] == 0:  # of which NumPy's transforms read more than there is
        z = np.zeros([1 if i == axis else d for i, d in enumerate(z.shape)], z.dtype)
    if onesided and inverse:
        y = np.fft.irfft(z, n, axis)[..., None]
    else:
        transform = np.fft.rfft if onesided else np.fft.ifft if inverse else np.fft.fft
        y = as_pairs(transform(z, n, axis))
    return y.astype(x.dtype)


def _dft_expand(b: Builder, call: Call) -> Value | None:
    """Products of matrices along one axis (graphc/ops/_fourier.py); None where sizes are open."""
    x, t = call.inputs[0], call.type(0)
    if not t.is_static or 0 in t.shape:
        return None
    axis = call.axis_of(_scalar(call, 2) if call.has(2) else -2, t.rank)
    n = int(number(_dft_length(call, axis)))
    aside = [*(i for i in range(t.rank - 1) if i != axis), axis, t.rank - 1]
    x = b.add("Cast", x, to=t.dtype if t.dtype == np.float64 else np.float32)
    x = x if aside == sorted(aside) else b.add("Transpose", x, perm=aside)
    lead = x.shape[:-2]
    x = b.add("Reshape", x, b.constant([prod(lead), *x.shape[-2:]], np.int64))
    y = _spectra(b, x, n, call.attrs.onesided, call.attrs.inverse)
    y = b.add("Reshape", y, b.constant([*lead, *y.shape[1:]], np.int64))
    y = y if aside == sorted(aside) else b.add("Transpose", y, perm=[aside.index(i) for i in range(t.rank)])
    return b.add("Cast", y, to=t.dtype)


def _spectra(b: Builder, x: Value, n: int, onesided: bool, inverse: bool) -> Value:
    """[batch, frequencies, 2] of signals [batch, length, 1 or 2] of n numbers, the first ones or with zeros behind them. onesided
    and inverse: signals [batch, n, 1] of the lower half of their spectra."""
    batch, half = x.shape[0], n // 2 + 1
    mirrored = onesided and inverse
    x = _fitted(b, x, half if mirrored else n)
    if mirrored:  # number n - k is the conjugate of number k
        k = np.arange(n)
        x = b.add("Gather", x, b.constant(np.minimum(k, n - k), np.int64), axis=1)
        signs = np.stack([np.ones(n), np.where(k < half, 1, -1)], -1)
        x = b.add("Mul", x, b.constant(signs, x.dtype))
    wanted = half if onesided and not inverse else n
    t = Transform(n, 1 if inverse else -1, wanted, 1 / n if inverse else 1)
    y = transform(b, x, batch, PAIRS if x.shape[-1] == 2 else REAL, t, REAL if mirrored else PAIRS)
    return b.add("Unsqueeze", y, b.constant([-1], np.int64)) if mirrored else y


def _fitted(b: Builder, x: Value, n: int) -> Value:
    """Signals [batch, length, parts] cut to n numbers, or with zeros behind them."""
    size = x.shape[1]
    if size > n:
        return _cut(b, x, n)
    return b.add("Pad", x, b.constant([0, 0, 0, 0, n - size, 0], np.int64)) if size < n else x


register(
    Op(
        "DFT",
        ("x", "dft_length?", "axis?"),
        _dft_type,
        _dft,
        {"inverse": Attr(bool, False), "onesided": Attr(bool, False)},
        expand=_dft_expand,
        values=(1, 2),
        tolerance=1e-5,
        samples=Samples(
            FLOATS,
            cases=(
                Case((Tensor((2, 6, 1)),)),
                Case((Tensor((2, 6, 2)), None, Const(1)), {"inverse": True}),
                Case((Tensor((2, 6, 1)), Const(9)), {"onesided": True}),
                Case((Tensor((2, 5, 3, 2)), Const(4), Const(-3))),
                Case((Tensor((2, 5, 2)),), {"onesided": True, "inverse": True}),
                Case((Tensor((2, 256, 1)),), {"onesided": True}),
                Case((Tensor((3, 100, 2)),), {"inverse": True}),
                Case((Tensor((2, 5, 66, 2)), Const(128)), {"onesided": True, "inverse": True}),
                Case((Tensor((1, 263, 1)),)),
                Case((Tensor((1, 134, 2)), Const(5000)), {"inverse": True}),
            ),
        ),
        family=Family.CONTRACTION,
    )
)


def _frame_length(call: Call) -> Dim:
    if call.has(3):
        return _scalar(call, 3)
    return call.shape(2)[0] if call.has(2) else call.shape(0)[1]


def _stft_type(call: Call) -> list[TensorType]:
    x, step = call.type(0), _scalar(call, 1)
    if x.rank not in (2, 3) or not may_be(x.shape[-1] if x.rank == 3 else 1, 1, 2):
        raise call.fail("takes signals [batch, length], [batch, length, 1] or [batch, length, 2]")
    if call.attrs.onesided and x.rank == 3 and x.shape[2] == 2:
        raise call.fail("onesided takes real signals", "set onesided=0")
    length = _frame_length(call)
    if call.has(2):
        same_dim(call, 0, (length, *call.shape(2)))
    if step < 1 or (isinstance(length, int) and isinstance(x.shape[1], int) and not 0 < length <= x.shape[1]):
        raise call.fail(f"frames of {length} with a step of {step} do not fit a signal of {x.shape[1]}")
    return [
        x.with_shape(
            (x.shape[0], (x.shape[1] - length) // step + 1, length // 2 + 1 if call.attrs.onesided else length, 2)
        )
    ]


def _stft(x, frame_step, window=None, frame_length=None, *, onesided):
    x = x[..., None] if x.ndim == 2 else x  # as PyTorch's exporter writes real signals
    step = int(np.reshape(frame_step, ()))
    whole = x.shape[1] if window is None else len(window)
    length = whole if frame_length is None else int(np.reshape(frame_length, ()))
    z = np.lib.stride_tricks.sliding_window_view(as_complex(widen(x)), length, axis=1)[:, ::step]
    z = z if window is None else z * widen(window)
    return as_pairs((np.fft.rfft if onesided else np.fft.fft)(z)).astype(x.dtype)


def _stft_expand(b: Builder, call: Call) -> Value | None:
    """The frames, of runs that each of them is made of, times the window, and their transforms; None where sizes are open."""
    x, t = call.inputs[0], call.type(0)
    length, step = _frame_length(call), _scalar(call, 1)
    if not t.is_static or not isinstance(length, int) or t.shape[0] == 0:
        return None
    length = int(length)
    batch, size, parts = *t.shape[:2], t.shape[2] if t.rank == 3 else 1
    count, run = (size - length) // step + 1, math.gcd(length, step)
    x = b.add("Cast", x, to=t.dtype if t.dtype == np.float64 else np.float32)
    x = b.add("Reshape", x, b.constant([batch, size, parts], np.int64))
    if run > 1:
        x = _cut(b, x, (count - 1) * step + length)
        x = b.add("Reshape", x, b.constant([batch, x.shape[1] // run, run * parts], np.int64))
    first = b.add("Range", *(b.constant(k, np.int64) for k in (0, count * (step // run), step // run)))
    first = b.add("Unsqueeze", first, b.constant([1], np.int64))
    frames = b.add("Gather", x, b.add("Add", first, b.constant(np.arange(length // run), np.int64)), axis=1)
    frames = b.add("Reshape", frames, b.constant([batch * count, length, parts], np.int64))
    if call.has(2):
        window = b.add("Cast", call.inputs[2], to=frames.dtype)
        frames = b.add("Mul", frames, b.add("Unsqueeze", window, b.constant([-1], np.int64)))
    y = _spectra(b, frames, length, call.attrs.onesided, False)
    y = b.add("Reshape", y, b.constant([batch, count, *y.shape[1:]], np.int64))
    return b.add("Cast", y, to=t.dtype)


register(
    Op(
        "STFT",
        ("signal", "frame_step", "window?", "frame_length?"),
        _stft_type,
        _stft,
        {"onesided": Attr(bool, True)},
        expand=_stft_expand,
        values=(1, 3),
        tolerance=1e-5,
        samples=Samples(
            FLOATS,
            cases=(
                Case((Tensor((2, 20, 1)), Const(3), None, Const(8))),
                Case((Tensor((1, 16, 1)), Const(4), Tensor((6,)))),
                Case((Tensor((1, 16, 2)), Const(5), Tensor((8,)), Const(8)), {"onesided": False}),
                Case((Tensor((2, 403, 1)), Const(40), Tensor((100,)))),
            ),
        ),
        family=Family.CONTRACTION,
    )
)


def _cut(b: Builder, x: Value, n: Dim) -> Value:
    """The first n numbers of signals [batch, length, parts]."""
    cut: Value = b.add("Slice", x, *(b.constant([k], np.int64) for k in (0, n, 1)))
    return cut


# --- windows ----------------------------------------------------------------------------------------------------------
def _window(name: str, shape: Callable[[np.ndarray], np.ndarray]) -> None:
    """Register a window of `size` points; `shape` gives it for positions from 0 to 1."""

    def infer(call: Call) -> list[TensorType]:
        return [TensorType(call.attrs.output_datatype, (_scalar(call, 0),))]

    def reference(size, output_datatype, periodic):
        n = int(np.reshape(size, ()))
        return shape(np.arange(n) / max(n if periodic else n - 1, 1)).astype(output_datatype)

    attrs = {"output_datatype": _FLOAT32, "periodic": Attr(bool, True)}
    cases = (Case((Const(10),)), Case((Const(9, "int32"),), {"periodic": False, "output_datatype": "float64"}))
    register(
        Op(
            name,
            ("size",),
            infer,
            reference,
            attrs,
            values=(0,),
            samples=Samples(("float32",), cases=cases),
            family=Family.SOURCE,
        )
    )


_window("HannWindow", lambda t: np.sin(np.pi * t) ** 2)
_window("HammingWindow", lambda t: 25 / 46 - 21 / 46 * np.cos(2 * np.pi * t))
_window("BlackmanWindow", lambda t: 0.42 - 0.5 * np.cos(2 * np.pi * t) + 0.08 * np.cos(4 * np.pi * t))


# --- MelWeightMatrix --------------------------------------------------------------------------------------------------
def _mel_type(call: Call) -> list[TensorType]:
    return [TensorType(call.attrs.output_datatype, (_scalar(call, 1) // 2 + 1, _scalar(call, 0)))]


def _mel(bins, dft_length, sample_rate, low, high, output_datatype):
    """Triangles whose corners are evenly spaced in mel(f) = 2595 log10(1 + f/700), rounded down to DFT bins."""
    bins, dft_length, sample_rate = (int(np.reshape(v, ())) for v in (bins, dft_length, sample_rate))
    low, high = (2595 * np.log10(1 + np.float64(np.reshape(v, ())) / 700) for v in (low, high))
    hertz = 700 * (10 ** ((low + np.arange(bins + 2) * (high - low) / (bins + 2)) / 2595) - 1)
    corner = ((dft_length + 1) * hertz // sample_rate).astype(np.int64)
    k = np.arange(dft_length // 2 + 1)[:, None]
    left, peak, right = corner[:-2], corner[1:-1], corner[2:]
    rising = np.where(peak > left, (k - left) / np.maximum(peak - left, 1), k == peak)
    falling = (right - k) / np.maximum(right - peak, 1)
    weights = np.where((k >= left) & (k <= peak), rising, 0)
    return np.where((k >= peak) & (k < right), falling, weights).astype(output_datatype)


register(
    Op(
        "MelWeightMatrix",
        ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz"),
        _mel_type,
        _mel,
        {"output_datatype": _FLOAT32},
        values=(0, 1, 2, 3, 4),
        samples=Samples(
            FLOATS,
            cases=(
                Case((Const(8), Const(16), Const(8192), Const(0.0, "float32"), Const(4096.0, "float32"))),
                Case((Const(5), Const(64), Const(16000), Const(20.0, "float32"), Const(8000.0, "float32"))),
            ),
        ),
        family=Family.SOURCE,
    )
)

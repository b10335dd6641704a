"""Pools and means of bytes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Deferred
from graphc.ops._geometry import window_view, windows
from graphc.ops.contract import require_dtype
from graphc.ops.contrib.affine_bytes import (
    emit_bytes,
    emit_centred,
    emit_real,
    in_bytes,
    real,
    require_bytes,
    require_one,
    scalar,
    scale,
    some,
    wide,
    zero,
)
from graphc.ops.contrib.channels_last import channels_first, emit_channels_first, require_space
from graphc.ops.contrib.record import applied, composed, operands
from graphc.ops.pool import POOL_ATTRS, counts
from graphc.ops.qlinear import BYTES
from graphc.ops.quantize import emit_quantized
from graphc.ops.shape import axes_of
from graphc.sizes import largest
from graphc.types import Dim

_LAST = {"channels_last": Attr(bool, False)}
_OPERANDS = "x x_scale x_zero_point? y_scale y_zero_point?"
KINDS = ("uint8", "int8")
MOST_TAPS = 16  # of windows that are added tap by tap


def _check(call: Call) -> None:
    require_bytes(call, 0, 2)
    require_bytes(call, 0, 4)
    require_one(call, 1, 2, 3, 4)


def _check_map(call: Call) -> None:
    _check(call)
    require_space(call)


def _cases(uses: Sequence[tuple[tuple[int, ...], dict]]) -> list[Case]:
    return [
        Case((some(k, *shape), scale(0.25), zero(k), scale(0.125), zero(k, first=5)), attrs)
        for k in KINDS
        for shape, attrs in uses
    ]


# --- means ------------------------------------------------------------------------------------------------------------
def _emit_mean(b: Builder, call: Call, x: Value, axes: Sequence[int], keepdims: bool) -> Value:
    """rint(Σ (q - zero) · (x_scale / (y_scale · n))) + y_zero of x, operand 0 in any order of axes; the sum is exact."""
    _, sx, zx, s, z = operands(call, 5)
    at = b.constant(axes, np.int64)
    total = b.add("ReduceSum", emit_centred(b, x, scalar(b, zx), np.int32), at, keepdims=keepdims)
    kind = wide(sx)
    count = b.add("ReduceProd", b.add("Gather", b.add("Shape", x), at), keepdims=False)
    whole = b.add("Mul", scalar(b, s), b.add("Cast", count, to=kind))
    factor = b.add("Div", scalar(b, sx), whole)
    return emit_quantized(b, b.add("Mul", b.add("Cast", total, to=kind), factor), scalar(b, z), call.dtype(0))


def _mean(x, sx, zx, s, z, axes, keepdims):
    axes = tuple(axes)
    centred = x.astype(np.int64) - (0 if zx is None else int(zx.reshape(())))
    n = np.prod([x.shape[a] for a in axes])
    total = centred.sum(axes, keepdims=keepdims).astype(np.promote_types(np.float32, sx.dtype))
    return in_bytes(total * (sx.reshape(()) / (s.reshape(()) * total.dtype.type(n))), np.ones(1, s.dtype), z, x.dtype)


def _space(rank: int, last: bool) -> list[int]:
    return list(range(1, rank - 1) if last else range(2, rank))


composed(
    "QLinearGlobalAveragePool",
    _OPERANDS,
    lambda x, sx, zx, s, z=None, *, channels_last: _mean(x, sx, zx, s, z, _space(x.ndim, channels_last), True),
    lambda b, call: _emit_mean(b, call, call.inputs[0], _space(call.rank(0), call.attrs.channels_last), True),
    _cases([((2, 3, 5, 7), {}), ((2, 3, 5, 7), {"channels_last": True}), ((1, 4, 9), {}), ((1, 2, 3, 2, 5), {})]),
    _LAST,
    check=_check_map,
    dtypes=("uint8",),
    tolerance=0.0,
)


def _mean_axes(call: Call) -> list[int]:
    rank = call.rank(0)
    return list(range(rank)) if call.attrs.axes is None else axes_of(call, list(call.attrs.axes), rank)


composed(
    "QLinearReduceMean",
    "x x_scale x_zero_point? y_scale y_zero_point?",
    lambda x, sx, zx, s, z=None, *, axes, keepdims: _mean(
        x, sx, zx, s, z, range(x.ndim) if axes is None else axes, keepdims
    ),
    lambda b, call: _emit_mean(b, call, call.inputs[0], _mean_axes(call), call.attrs.keepdims),
    _cases([((2, 3, 5), {"axes": (1,), "keepdims": True}), ((2, 3, 5), {"axes": (-1, 0), "keepdims": False})]),
    {"axes": Attr("ints", None), "keepdims": Attr(bool, True)},
    check=_check,
    dtypes=("uint8",),
    tolerance=0.0,
)

# --- windows ----------------------------------------------------------------------------------------------------------
_WINDOW = {k: v for k, v in POOL_ATTRS.items() if k != "dilations"}


def _options(attrs) -> dict:
    return {k: v for k, v in attrs.items() if k != "channels_last"}


def _is_global(space: Sequence[Dim], attrs) -> bool:
    """Is one window, of all of a plane, all there is? Then it is a mean as QLinearGlobalAveragePool takes it."""
    if attrs["kernel_shape"] != tuple(space):
        return False
    if attrs["auto_pad"].startswith("SAME"):
        return all(s >= k for s, k in zip(attrs["strides"] or (1,) * len(space), attrs["kernel_shape"]))
    return attrs["auto_pad"] == "VALID" or not any(attrs["pads"] or ())


def _emit_average(b: Builder, call: Call, q: Value) -> Value:
    """The mean of each window; with count_include_pad over its taps, also of those beyond the padding (ceil_mode).

    The elements of a window are added row by row, as ONNX Runtime adds them: where both scales are the same, halves are
    frequent, and the order of the sum decides to which side they go. Large windows, and maps of unknown size, take a pool.
    Raises Deferred while sizes are not known that the divisor depends on.
    """
    _, sx, zx = operands(call, 3)
    options = _options(call.attrs)
    space, kernel, include = q.shape[2:], options["kernel_shape"], options["count_include_pad"]
    known, taps = all(isinstance(d, int) for d in space), math.prod(kernel)
    beyond = include and options["ceil_mode"]
    if not beyond and (taps > MOST_TAPS or not known):
        return b.add("AveragePool", emit_real(b, q, sx, zx), **options)
    if not known:
        raise Deferred("sizes of the feature map")
    given = {k: v for k, v in options.items() if k not in ("kernel_shape", "count_include_pad")}
    try:
        g = windows(space, kernel, **given)
    except ValueError as error:
        raise call.fail(str(error), "check kernel, strides and pads against the size of the input") from None
    reach = [(o - 1) * stride + e for o, stride, e in zip(g.out_spatial, g.strides, g.extent)]
    ends = [largest(r - d - begin, 0) for r, d, begin in zip(reach, space, g.pads_begin)]
    padded = b.add("Pad", q, b.constant([0, 0, *g.pads_begin, 0, 0, *ends], np.int64), scalar(b, zx))
    if taps > MOST_TAPS:
        return b.add("AveragePool", emit_real(b, padded, sx, zx), kernel_shape=kernel, strides=g.strides)
    axes, steps = (b.constant(v, np.int64) for v in (range(2, len(q.shape)), g.strides))
    total = None
    for tap in itertools.product(*map(range, kernel)):
        behind = [t + (o - 1) * stride + 1 for t, o, stride in zip(tap, g.out_spatial, g.strides)]
        part = b.add("Slice", padded, b.constant(tap, np.int64), b.constant(behind, np.int64), axes, steps)
        part = emit_real(b, part, sx, zx)
        total = part if total is None else b.add("Add", total, part)
    assert total is not None
    return b.add("Div", total, b.constant(taps if include else counts(space, g, False), total.dtype))


def _expand_average(b: Builder, call: Call) -> Value:
    x, _, _, s, z = operands(call, 5)

    def pooled(q: Value) -> Value:
        if _is_global(q.shape[2:], call.attrs):
            call.attrs.ignore(*call.attrs)  # there is one window, whatever they say
            return _emit_mean(b, call, q, range(2, len(q.shape)), True)
        mean = _emit_average(b, call, q)
        return emit_bytes(b, mean, s, z, call.dtype(0), shifted=True)

    return emit_channels_first(b, x, call.attrs.channels_last, pooled)


def _average(x, sx, zx, s, z=None, *, channels_last, kernel_shape, count_include_pad, **options):
    def pooled(q):
        if _is_global(q.shape[2:], {"kernel_shape": kernel_shape, **options}):
            return _mean(q, sx, zx, s, z, range(2, q.ndim), True)
        g = windows(q.shape[2:], kernel_shape, **options)
        axes = tuple(range(-len(kernel_shape), 0))
        total = window_view(real(q, sx, zx), g, 0).sum(axes)
        inside = window_view(np.ones((1, 1, *q.shape[2:]), total.dtype), g, 0).sum(axes)
        return in_bytes(total / (math.prod(kernel_shape) if count_include_pad else inside), s, z, x.dtype, shifted=True)

    return channels_first(x, channels_last, pooled)


_AROUND = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
composed(
    "QLinearAveragePool",
    _OPERANDS,
    _average,
    _expand_average,
    _cases(
        [
            ((2, 3, 8, 9), {"kernel_shape": (2, 2), "strides": (2, 1)}),
            ((1, 3, 5, 7), {**_AROUND, "strides": (2, 2), "count_include_pad": True}),
            ((1, 5, 7, 4), {"kernel_shape": (2, 4), "channels_last": True}),
            ((1, 2, 6, 7), {"kernel_shape": (3, 2), "strides": (2, 2), "ceil_mode": True, "count_include_pad": True}),
            ((1, 2, 6, 7), {**_AROUND, "strides": (2, 3), "ceil_mode": True}),
            ((1, 9, 4, 2), {"kernel_shape": (4, 2)}),
            ((1, 2, 6, 7), {"kernel_shape": (5, 4)}),
            ((1, 2, 9, 9), {"kernel_shape": (4, 5), "strides": (3, 3), "ceil_mode": True, "count_include_pad": True}),
            ((1, 3, 12), {"kernel_shape": (4,), "strides": (3,), "auto_pad": "SAME_UPPER", "count_include_pad": True}),
        ]
    ),
    {**_WINDOW, **_LAST, "count_include_pad": Attr(bool, False)},
    check=_check_map,
    dtypes=("uint8",),
    tolerance=0.0,
)


def _check_nhwc(call: Call) -> None:
    require_dtype(call, 0, BYTES)
    require_space(call)


composed(
    "NhwcMaxPool",
    "x",
    lambda x, **attrs: channels_first(x, True, lambda q: applied("MaxPool", q, **attrs)),
    lambda b, call: emit_channels_first(b, call.inputs[0], True, lambda q: b.add("MaxPool", q, **call.attrs)),
    [
        Case((some(k, *shape),), attrs)
        for k in KINDS
        for shape, attrs in (
            ((1, 5, 6, 3), {**_AROUND, "strides": (2, 2)}),
            ((2, 9, 4), {"kernel_shape": (3,), "dilations": (2,), "ceil_mode": True, "strides": (2,)}),
        )
    ],
    POOL_ATTRS,
    check=_check_nhwc,
    dtypes=("uint8",),
    tolerance=0.0,
)

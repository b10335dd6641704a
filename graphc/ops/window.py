"""Convolutions: plain, transposed and deformable, in any number of spatial axes."""

from __future__ import annotations

import itertools
import math

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Op, Samples, Tensor, register
from graphc.ops._geometry import (
    AUTO_PAD,
    WINDOW_ATTRS,
    Geometry,
    geometry,
    transposed_windows,
    window_view,
    windows,
)
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype, require_same_dtype
from graphc.ops.precision import in_float32
from graphc.types import Dim, Shape, TensorType, numbers, prod

__all__ = ["Geometry", "conv", "conv_macs", "conv_shape", "geometry"]

CONV_ATTRS = {**AUTO_PAD, **WINDOW_ATTRS, "group": Attr(int, 1)}


# --- Conv -------------------------------------------------------------------------------------------------------------
def conv_shape(call: Call) -> Shape:
    """Shape [N, M, *out] of a convolution of the operands named x [N, C, *spatial] and w [M, C/group, *kernel].

    Checks ranks, channels, groups and the bias 'b' [M]. Raises TypeRuleError.
    """
    x, w = _operand(call, "x"), _operand(call, "w")
    _check_ranks(call, x, w)
    group = _check_group(call, "input", x[1])
    _check_group(call, "output", w[0])
    takes = w[1] * group
    if differ(x[1], takes):
        raise call.fail(
            f"the input {x} has {x[1]} channels, the weights {w} take {takes} ({w[1]} per group, group={group})",
            "check the channels of the layer before and the attribute group; weights are (M, C/group, *kernel)",
        )
    _check_bias(call, w[0])
    return (x[0], w[0], *geometry(call).out_spatial)


def _operand(call: Call, name: str) -> Shape:
    return call.shape(call.op.inputs.index(name))


def _check_ranks(call: Call, x: Shape, w: Shape) -> None:
    if len(x) < 3:
        raise call.fail(f"the input has shape {x}: no spatial axis", "give it as [N, C, *spatial]; Unsqueeze adds axes")
    if len(w) != len(x):
        raise call.fail(
            f"the input {x} has {len(x) - 2} spatial axes, the weights {w} have {len(w) - 2}", "both need the same rank"
        )


def _check_group(call: Call, side: str, channels) -> int:
    if call.attrs.group < 1:
        raise call.fail(f"group is {call.attrs.group}", "use 1, or a divisor of the channels")
    if isinstance(channels, int) and channels % call.attrs.group:
        raise call.fail(
            f"{channels} {side} channels do not divide into {call.attrs.group} groups",
            "use a group that divides the channels",
        )
    return call.attrs.group


def _check_bias(call: Call, channels) -> None:
    i = call.op.inputs.index("b?") if "b?" in call.op.inputs else len(call.inputs)
    if call.has(i) and (call.rank(i) != 1 or differ(call.shape(i)[0], channels)):
        raise call.fail(
            f"the bias has shape {call.shape(i)}, not ({channels},)", "it needs one number per output channel"
        )


def _conv_infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, *range(len(call.inputs)))
    return [TensorType(dtype, conv_shape(call))]


def conv_macs(call: Call) -> Dim:
    """One for every element of the result, input channel of its group and tap of the kernel."""
    w = _operand(call, "w")
    return prod((*conv_shape(call), *w[1:]))


def conv(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, *, group: int, kernel_shape=None, **options) -> np.ndarray:
    """Convolution in the dtype of its operands: windows as columns (im2col), then matrix products."""
    g = windows(x.shape[2:], w.shape[2:], **options)
    columns = (_columns(window_view(image[None], g, 0)[0]) for image in x)
    y = _grouped_product(columns, w, group, g.out_spatial)
    return y if b is None else y + b.reshape(-1, *[1] * len(g.kernel))


def _columns(view: np.ndarray) -> np.ndarray:
    """[C, *out, *kernel] -> [C, kernel, out]."""
    rank = view.ndim // 2
    outs, taps = view.shape[1 : rank + 1], view.shape[rank + 1 :]
    order = (0, *range(rank + 1, 2 * rank + 1), *range(1, rank + 1))
    return view.transpose(order).reshape(len(view), np.prod(taps, dtype=int), np.prod(outs, dtype=int))


def _grouped_product(columns, w: np.ndarray, group: int, out: Shape) -> np.ndarray:
    """Columns [C, kernel, out] of every image with weights [M, C/group, *kernel] -> [N, M, *out]."""
    weights = w.reshape(group, len(w) // group, math.prod(w.shape[1:]))
    images = [np.matmul(weights, c.reshape(group, weights.shape[2], c.shape[2])) for c in columns]
    return np.array(images, w.dtype).reshape(len(images), len(w), *numbers(out))


def conv_cases(*, transposed: bool = False) -> tuple[Case, ...]:
    """Convolutions of 1 to 3 axes: groups, depthwise, dilation, strides and every form of padding, at awkward sizes."""

    def case(n, c, spatial, m, kernel, bias=True, group=1, **attrs):
        w = (c, m // group, *kernel) if transposed else (m, c // group, *kernel)
        return Case((Tensor((n, c, *spatial)), Tensor(w), Tensor((m,)) if bias else None), {"group": group, **attrs})

    cases = [
        case(1, 3, (13,), 5, (3,), pads=(1, 1)),
        case(2, 6, (17,), 4, (4,), group=2, strides=(3,), dilations=(2,), pads=(3, 2)),
        case(1, 1, (5, 5), 1, (1, 1), bias=False),
        case(1, 16, (7, 7), 32, (1, 1)),
        case(2, 5, (7, 13), 9, (1, 1), strides=(2, 2)),
        case(1, 3, (32, 32), 16, (7, 7), strides=(2, 2), pads=(3, 3, 3, 3)),
        case(1, 16, (14, 14), 16, (3, 3), pads=(1, 1, 1, 1)),
        case(1, 24, (13, 13), 40, (3, 3), pads=(1, 1, 1, 1), bias=False),
        case(2, 3, (7, 13), 5, (3, 3), pads=(1, 1, 1, 1), strides=(2, 2)),
        case(3, 7, (13, 7), 19, (3, 3)),
        case(1, 4, (13, 7), 6, (3, 5), pads=(0, 3, 2, 1)),
        case(1, 4, (9, 9), 6, (3, 3), strides=(1, 2), auto_pad="SAME_UPPER"),
        case(2, 4, (7, 13), 6, (2, 4), strides=(2, 3), auto_pad="SAME_LOWER"),
        case(1, 4, (13, 7), 6, (3, 2), strides=(3, 1), auto_pad="SAME_UPPER"),
        case(1, 4, (7, 7), 6, (3, 3), auto_pad="VALID", strides=(2, 2)),
        case(1, 8, (13, 13), 8, (3, 3), dilations=(2, 2), pads=(2, 2, 2, 2)),
        case(2, 5, (13, 11), 7, (3, 2), dilations=(3, 2), strides=(2, 1), pads=(1, 0, 2, 3)),
        case(1, 4, (7, 7), 6, (3, 3), dilations=(2, 1), auto_pad="SAME_LOWER"),
        case(2, 12, (7, 13), 6, (3, 3), group=3, pads=(1, 1, 1, 1)),
        case(1, 32, (7, 7), 64, (1, 1), group=4),
        case(1, 16, (13, 13), 16, (3, 3), group=16, pads=(1, 1, 1, 1)),
        case(2, 13, (7, 7), 13, (5, 5), group=13, strides=(2, 2), pads=(2, 2, 2, 2)),
        case(1, 6, (13, 7), 18, (3, 3), group=6, pads=(1, 1, 1, 1), bias=False),
        case(1, 10, (9, 9), 10, (3, 3), group=10, dilations=(2, 2), pads=(2, 2, 2, 2)),
        case(2, 3, (3, 3), 4, (3, 3)),
        case(1, 3, (5, 6, 7), 4, (3, 3, 3), pads=(1, 1, 1, 1, 1, 1)),
        case(2, 4, (7, 5, 6), 6, (2, 3, 1), group=2, strides=(2, 1, 3), pads=(1, 0, 0, 0, 2, 0)),
        case(1, 4, (5, 5, 5), 4, (3, 3, 3), group=4, dilations=(1, 2, 1), auto_pad="SAME_UPPER"),
    ]
    return tuple(cases)


register(
    Op(
        "Conv",
        ("x", "w", "b?"),
        _conv_infer,
        in_float32(lambda x, w, b=None, *, exact=False, **attrs: conv(x, w, b, **attrs)),
        {
            **CONV_ATTRS,
            "exact": Attr(bool, False, settled=True),
        },  # graphc's own: only algorithms that multiply and add the elements
        macs=conv_macs,
        per_sample=True,
        samples=Samples(cases=conv_cases()),
        windowed=True,
    )
)


# --- ConvTranspose ----------------------------------------------------------------------------------------------------
def _transposed_infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 1, 2)
    x, w = call.shape(0), call.shape(1)
    _check_ranks(call, x, w)
    group = _check_group(call, "input", x[1])
    if differ(x[1], w[0]):
        raise call.fail(
            f"the input {x} has {x[1]} channels, the weights {w} take {w[0]}",
            "check the channels of the layer before; weights of ConvTranspose are (C, M/group, *kernel)",
        )
    channels = w[1] * group
    _check_bias(call, channels)
    return [TensorType(dtype, (x[0], channels, *geometry(call).out_spatial))]


def _transposed_macs(call: Call) -> Dim:
    """One for every element of the input, output channel of its group and tap of the kernel."""
    return prod((*call.shape(0), *call.shape(1)[1:]))


def _transposed_reference(x, w, b=None, *, group, kernel_shape=None, **options):
    """Every tap of the kernel adds the weighted input, spread by the strides, to the full result; padding is cut."""
    n, c, *spatial = x.shape
    g = transposed_windows(spatial, w.shape[2:], **options)
    kernel, begins, outs = numbers(g.kernel), numbers(g.pads_begin), numbers(g.out_spatial)
    m = w.shape[1] * group
    weights = w.reshape(group, c // group, math.prod(w.shape[1:])).swapaxes(1, 2)  # [group, M/group·kernel, C/group]
    products = np.matmul(weights, x.reshape(n, group, c // group, math.prod(spatial))).reshape(n, m, *kernel, *spatial)
    sizes = zip(begins, outs, spatial, g.strides, numbers(g.extent))
    full = np.zeros((n, m, *(max(p + o, (i - 1) * s + e) for p, o, i, s, e in sizes)), x.dtype)
    for tap in itertools.product(*map(range, kernel)):
        at = tuple(slice(t * d, t * d + i * s, s) for t, d, i, s in zip(tap, g.dilations, spatial, g.strides))
        every, one = (slice(None), slice(None), *at), (slice(None), slice(None), *tap)
        full[every] += products[one]
    inner = (slice(None), slice(None), *(slice(p, p + o) for p, o in zip(begins, outs)))
    y = full[inner]
    return y.copy() if b is None else y + b.reshape(-1, *[1] * len(spatial))


def _transposed_cases() -> tuple[Case, ...]:
    def case(x, w, m=None, **attrs):
        return Case((Tensor(x), Tensor(w), None if m is None else Tensor((m,))), attrs)

    own = (
        case((1, 3, 5, 7), (3, 4, 3, 3), 4, strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1)),
        case((2, 3, 7, 5), (3, 2, 2, 2), 2, strides=(2, 2)),
        case((1, 4, 5, 5), (4, 3, 4, 4), 6, group=2, strides=(2, 2), pads=(1, 1, 1, 1)),
        case((1, 3, 3, 3), (3, 2, 3, 3), None, strides=(3, 2), output_shape=(10, 8), output_padding=(1, 1)),
        case((1, 3, 4, 4), (3, 2, 3, 3), 2, strides=(2, 2), output_shape=(8, 7), auto_pad="SAME_UPPER"),
        case((1, 3, 4, 4), (3, 2, 2, 2), 2, strides=(2, 3), output_shape=(9, 13)),
        case((1, 2, 5), (2, 3, 4), 3, strides=(3,), dilations=(2,), pads=(1, 2), output_padding=(2,)),
        case((1, 2, 3, 4, 3), (2, 2, 3, 2, 2), 2, strides=(2, 1, 2), output_padding=(1, 0, 1)),
    )
    return conv_cases(transposed=True) + own


register(
    Op(
        "ConvTranspose",
        ("x", "w", "b?"),
        _transposed_infer,
        in_float32(_transposed_reference),
        {**CONV_ATTRS, "output_padding": Attr("ints", None), "output_shape": Attr("ints", None)},
        macs=_transposed_macs,
        per_sample=True,
        samples=Samples(cases=_transposed_cases()),
        windowed=True,
    )
)


# --- DeformConv -------------------------------------------------------------------------------------------------------
def _deform_infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, *range(len(call.inputs)))
    y, taps, rank = conv_shape(call), prod(geometry(call).kernel), call.rank(0) - 2
    if call.attrs.offset_group < 1 or (
        isinstance(call.shape(0)[1], int) and call.shape(0)[1] % call.attrs.offset_group
    ):
        raise call.fail(f"{call.shape(0)[1]} input channels do not divide into {call.attrs.offset_group} offset groups")
    for i, what, channels in (
        (2, "offset", call.attrs.offset_group * taps * rank),
        (4, "mask", call.attrs.offset_group * taps),
    ):
        want = (y[0], channels, *y[2:])
        if call.has(i) and (call.rank(i) != len(want) or any(differ(a, b) for a, b in zip(call.shape(i), want))):
            raise call.fail(f"the {what} has shape {call.shape(i)}, not {want}")
    return [TensorType(dtype, y)]


def _deform_reference(x, w, offset, b=None, mask=None, *, group, offset_group, kernel_shape=None, **options):
    """Columns sampled at window positions plus offsets (n-linear, zero outside), then the product of a convolution."""
    n, c, *spatial = x.shape
    g = windows(spatial, w.shape[2:], **options)
    kernel, out = numbers(g.kernel), numbers(g.out_spatial)
    rank, taps, outs = len(spatial), math.prod(kernel), math.prod(out)
    offset = offset.reshape(n, offset_group, taps, rank, outs)
    tap_grid = np.indices(kernel).reshape(rank, taps, 1)
    out_grid = np.indices(out).reshape(rank, 1, outs)
    source = x.reshape(n, offset_group, c // offset_group, prod(spatial))
    columns = np.zeros((n, offset_group, c // offset_group, taps * outs), x.dtype)
    position = [
        out_grid[k] * g.strides[k] - g.pads_begin[k] + tap_grid[k] * g.dilations[k] + offset[:, :, :, k]
        for k in range(rank)
    ]
    for corner in itertools.product((0, 1), repeat=rank):
        weight, flat = np.ones_like(position[0]), np.zeros(position[0].shape, np.int64)
        for p, add, size in zip(position, corner, spatial):
            cell = np.floor(p) + add
            weight = weight * np.where((cell >= 0) & (cell < size), 1 - np.abs(p - cell), 0)
            flat = flat * size + np.clip(cell, 0, size - 1).astype(np.int64)
        at = (n, offset_group, 1, taps * outs)
        columns += np.take_along_axis(source, flat.reshape(at), -1) * weight.reshape(at).astype(x.dtype)
    columns = columns.reshape(n, offset_group, c // offset_group, taps, outs)
    if mask is not None:
        columns = columns * mask.reshape(n, offset_group, 1, taps, outs)
    y = _grouped_product(columns.reshape(n, c, taps, outs), w, group, g.out_spatial)
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def _deform_expand(b: Builder, call: Call) -> Value | None:
    """The windows' positions plus offsets, as positions of a grid in float64, which are sampled; then a product of matrices.
    None where sizes are open."""
    x, w, offset = call.inputs[:3]
    if not all(call.type(i).is_static for i in (0, 1, 2)) or 0 in (*x.shape, *offset.shape, *w.shape):
        return None
    g, groups, group = geometry(call), call.attrs.offset_group, call.attrs.group
    (n, c, *sizes), kernel, outs = x.shape, numbers(g.kernel), numbers(g.out_spatial)
    rank, taps, out = len(sizes), math.prod(kernel), math.prod(outs)

    def shaped(v: Value, *shape: Dim) -> Value:
        return b.add("Reshape", v, b.constant(shape, np.int64))

    tap_grid, out_grid = np.indices(kernel).reshape(rank, taps, 1), np.indices(outs).reshape(rank, 1, out)
    first = [out_grid[k] * g.strides[k] - g.pads_begin[k] + tap_grid[k] * g.dilations[k] for k in range(rank)]
    scale = 2 / np.array(sizes, np.float64)[:, None]
    moved = b.add("Cast", shaped(offset, n * groups, taps, rank, out), to=np.float64)
    at = b.add("Add", moved, b.constant(np.stack(first, 1), np.float64))  # [n, taps, rank, out], in pixels
    at = b.add("Add", b.add("Mul", at, b.constant(scale, np.float64)), b.constant(scale / 2 - 1, np.float64))
    at = b.add("Gather", at, b.constant(np.arange(rank)[::-1], np.int64), axis=2)  # a grid has the last axis first
    at = b.add("Transpose", at, perm=(0, 1, 3, 2))
    wide = x.dtype if x.dtype == np.float64 else np.dtype(np.float32)
    spread = (taps, out, *[1] * (rank - 2)) if rank > 1 else (taps * out,)
    source = shaped(b.add("Cast", x, to=wide), n * groups, c // groups, *sizes)
    columns = b.add("GridSample", source, shaped(at, n * groups, *spread, rank))
    if call.has(4):
        columns = shaped(columns, n, groups, c // groups, taps * out)
        mask = b.add("Cast", call.inputs[4], to=wide)
        columns = b.add("Mul", columns, shaped(mask, n, groups, 1, taps * out))
    columns = shaped(columns, n, group, c // group * taps, out)
    filters = shaped(b.add("Cast", w, to=wide), group, w.shape[0] // group, c // group * taps)
    y = shaped(b.add("MatMul", filters, columns), n, w.shape[0], *outs)
    if call.has(3):
        y = b.add("Add", y, shaped(b.add("Cast", call.inputs[3], to=wide), -1, *[1] * rank))
    return b.add("Cast", y, to=x.dtype)


def _deform_cases() -> tuple[Case, ...]:
    def case(x, w, out, offset_group=1, bias=False, mask=False, **attrs):
        taps = int(np.prod(w[2:]))
        offset = Tensor((x[0], offset_group * taps * len(out), *out))
        scale = Tensor((x[0], offset_group * taps, *out)) if mask else None
        return Case(
            (Tensor(x), Tensor(w), offset, Tensor((w[0],)) if bias else None, scale),
            {"offset_group": offset_group, **attrs},
        )

    return (
        case((1, 3, 7, 7), (4, 3, 3, 3), (5, 5)),
        case((2, 4, 7, 9), (6, 2, 3, 2), (4, 5), 2, True, True, group=2, strides=(2, 2), pads=(1, 1, 1, 1)),
        case((1, 4, 9, 9), (4, 1, 3, 3), (5, 5), 4, True, group=4, dilations=(2, 2)),
        case((1, 2, 4, 5, 4), (3, 2, 2, 2, 2), (3, 4, 3), 1, True, True),
        case((1, 2, 9), (3, 2, 3), (9,), pads=(1, 1)),
    )


register(
    Op(
        "DeformConv",
        ("x", "w", "offset", "b?", "mask?"),
        _deform_infer,
        in_float32(_deform_reference),
        {**WINDOW_ATTRS, "group": Attr(int, 1), "offset_group": Attr(int, 1)},
        expand=_deform_expand,
        macs=conv_macs,
        samples=Samples(cases=_deform_cases()),
        windowed=True,
    )
)

"""Crops, windows and transposed convolutions of com.microsoft."""

from __future__ import annotations

import math

import numpy as np

from graphc.dtypes import names
from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Family, Op, Samples, Tensor, get_op, register
from graphc.ops._geometry import AUTO_PAD, WINDOW_ATTRS, window_view, windows
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype
from graphc.ops.contrib.record import DOMAIN, applied, composed, operands
from graphc.ops.index import checked
from graphc.ops.movement import INF, same_dim
from graphc.ops.pool import pool_shape
from graphc.ops.shape import ANY
from graphc.types import TensorType, may_be

INT64 = np.dtype(np.int64)


# --- CropAndResize ----------------------------------------------------------------------------------------------------
def _check_crop(call: Call) -> None:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    if call.dtype(1) != dtype:
        raise call.fail(f"x is {dtype}, the regions are {call.dtype(1)}", "insert a Cast")
    for i in (2, 3):
        require_dtype(call, i, ("int32",))
    if call.rank(0) != 4 or call.rank(1) != 2 or differ(call.shape(1)[1], 4):
        raise call.fail(f"takes images [N, C, H, W] and regions [n, 4], not {call.shape(0)} and {call.shape(1)}")
    if 0 in call.shape(0)[2:]:
        raise call.fail(f"images {call.type(0)} have no pixels")
    if call.rank(2) != 1 or call.rank(3) != 1 or not may_be(call.shape(3)[0], 2):
        raise call.fail("takes batch_indices [n] and crop_size [2]")
    same_dim(call, 0, (call.shape(1)[0], call.shape(2)[0]))
    if min(call.ints(3)) < 1:
        raise call.fail(f"crop_size is {call.ints(3)}", "give a height and a width of 1 or more")


def _emit_positions(b: Builder, call: Call, axis: int, count: int) -> tuple[Value, Value]:
    """Positions [n, count] along height (axis 0) or width (1) in each region, and the last position of the image, [1]."""
    x, rois, dtype = call.inputs[0], call.inputs[1], call.dtype(0)
    last = b.add("Sub", b.add("Shape", x, start=2 + axis, end=3 + axis), b.constant([1], INT64))
    last = b.add("Cast", last, to=dtype)
    start, end = (b.add("Gather", rois, b.constant([i], INT64), axis=1) for i in (axis, axis + 2))
    if count == 1:
        middle = b.add("Mul", b.add("Add", start, end), b.constant(0.5, dtype))
        return b.add("Mul", middle, last), last
    step = b.add("Div", b.add("Mul", b.add("Sub", end, start), last), b.constant(count - 1, dtype))
    steps = b.add("Mul", b.constant(np.arange(count)[None], dtype), step)
    return b.add("Add", b.add("Mul", start, last), steps), last


def _expand_crop(b: Builder, call: Call) -> Value:
    """Pixels are gathered from [N, H, W, C] by (image, row, column)."""
    x, dtype, sizes = call.inputs[0], call.dtype(0), call.ints(3)
    pixels = b.add("Transpose", x, perm=[0, 2, 3, 1])
    nothing = b.constant(0, dtype)
    inside, lower, upper, parts = [], [], [], []
    for axis, count in enumerate(sizes):
        at, last = _emit_positions(b, call, axis, count)
        within = b.add("And", b.add("GreaterOrEqual", at, nothing), b.add("LessOrEqual", at, last))
        at = b.add("Where", within, at, nothing)
        at = b.add("Unsqueeze", at, b.constant([2 - axis], INT64))  # [n, h, 1], [n, 1, w]
        inside.append(b.add("Unsqueeze", within, b.constant([2 - axis], INT64)))
        if call.attrs.mode == "nearest":
            lower.append(b.add("Floor", b.add("Add", at, b.constant(0.5, dtype))))
            continue
        lower.append(b.add("Floor", at))
        upper.append(b.add("Ceil", at))
        parts.append(b.add("Unsqueeze", b.add("Sub", at, lower[-1]), b.constant([3], INT64)))
    image = b.add("Reshape", call.inputs[2], b.constant([-1, 1, 1], INT64))

    def picked(row: Value, column: Value) -> Value:
        indices = [b.add("Cast", v, to=INT64) for v in (image, row, column)]
        zeros = b.add("Mul", b.add("Add", b.add("Add", *indices[:2]), indices[2]), b.constant(0, INT64))
        columns = [b.add("Unsqueeze", b.add("Add", v, zeros), b.constant([3], INT64)) for v in indices]
        return b.add("GatherND", pixels, b.add("Concat", *columns, axis=3))

    def between(low: Value, high: Value, part: Value) -> Value:
        return b.add("Add", low, b.add("Mul", b.add("Sub", high, low), part))

    if call.attrs.mode == "nearest":
        y = picked(*lower)
    else:
        top = between(picked(lower[0], lower[1]), picked(lower[0], upper[1]), parts[1])
        bottom = between(picked(upper[0], lower[1]), picked(upper[0], upper[1]), parts[1])
        y = between(top, bottom, parts[0])
    shown = b.add("Unsqueeze", b.add("And", *inside), b.constant([3], INT64))
    y = b.add("Where", shown, y, b.constant(call.attrs.extrapolation_value, dtype))
    return b.add("Transpose", y, perm=[0, 3, 1, 2])


def _crop_positions(start: np.floating, end: np.floating, size: int, count: int) -> np.ndarray:
    if count == 1:
        return np.array([(start + end) * start.dtype.type(0.5) * (size - 1)])
    step = (end - start) * (size - 1) / (count - 1)
    return start * (size - 1) + np.arange(count).astype(start.dtype) * step


def _crop(x, rois, batch, size, extrapolation_value, mode):
    n, (h, w) = len(rois), (int(s) for s in size)
    y = np.full((n, x.shape[1], h, w), extrapolation_value, x.dtype)
    for i, image in enumerate(checked("CropAndResize", batch, len(x), 0)):
        rows, columns = (_crop_positions(rois[i, a], rois[i, a + 2], x.shape[2 + a], (h, w)[a]) for a in (0, 1))
        for p, r in enumerate(rows):
            for q, c in enumerate(columns):
                if not (0 <= r <= x.shape[2] - 1 and 0 <= c <= x.shape[3] - 1):
                    continue
                if mode == "nearest":
                    y[i, :, p, q] = x[image, :, int(np.floor(r + 0.5)), int(np.floor(c + 0.5))]
                    continue
                r0, c0 = int(np.floor(r)), int(np.floor(c))
                r1, c1, fr, fc = int(np.ceil(r)), int(np.ceil(c)), r - r0, c - c0
                top = x[image, :, r0, c0] * (1 - fc) + x[image, :, r0, c1] * fc
                bottom = x[image, :, r1, c0] * (1 - fc) + x[image, :, r1, c1] * fc
                y[i, :, p, q] = top * (1 - fr) + bottom * fr
    return y


_ROIS = Const([[0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [0.5, 0.9, -0.1, 1.3]], "float32")
_BATCH = Const([0, 1, 1], "int32")
composed(
    "CropAndResize",
    "x rois batch_indices crop_size",
    _crop,
    _expand_crop,
    [
        Case((Tensor((2, 2, 6, 7)), _ROIS, _BATCH, Const(size, "int32")), attrs)
        for size, attrs in (
            ([3, 4], {"extrapolation_value": -7.0}),
            ([1, 1], {}),
            ([1, 5], {}),
            ([3, 4], {"mode": "nearest"}),
        )
    ],
    {"mode": Attr(str, "bilinear", ("bilinear", "nearest")), "extrapolation_value": Attr(float, 0.0)},
    check=_check_crop,
    values=(3,),
    dtypes=("float32",),
)


# --- UnfoldTensor -----------------------------------------------------------------------------------------------------
def _check_unfold(call: Call) -> None:
    x, size, step = call.type(0), call.attrs.size, call.attrs.step
    axis = call.axis_of(call.attrs.dim, x.rank)
    if size < 1 or step < 1 or (isinstance(x.shape[axis], int) and size > x.shape[axis]):
        raise call.fail(f"windows of {size}, {step} apart, along axis {axis} of {x}", "use a size from 1 to that dim")


def _expand_unfold(b: Builder, call: Call) -> Value:
    """Element k of all windows is one Slice."""
    rank, size, step = call.rank(0), call.attrs.size, call.attrs.step
    axis, last = b.constant([call.axis_of(call.attrs.dim, rank)], INT64), b.constant([rank], INT64)
    parts = []
    for k in range(size):
        ends = (k - size + 1) or INF
        bounds = (b.constant([k], INT64), b.constant([ends], INT64), axis, b.constant([step], INT64))
        parts.append(b.add("Unsqueeze", b.add("Slice", call.inputs[0], *bounds), last))
    return b.add("Concat", *parts, axis=rank)


def _unfold(x, dim, size, step):
    return np.lib.stride_tricks.sliding_window_view(x, size, dim).take(
        np.arange(0, x.shape[dim] - size + 1, step), dim % x.ndim
    )


composed(
    "UnfoldTensor",
    "x",
    _unfold,
    _expand_unfold,
    [
        Case((Tensor((2, 2, 5)),), {"size": 3, "step": 2}),
        Case((Tensor((5, 2)),), {"size": 2, "dim": 0}),
        Case((Tensor((4,)),), {"size": 4}),
    ],
    {"dim": Attr(int, -1), "size": Attr(int), "step": Attr(int, 1)},
    check=_check_unfold,
    dtypes=ANY,
    tolerance=0.0,
    family=Family.MOVEMENT,
)


# --- ConvTransposeWithDynamicPads -------------------------------------------------------------------------------------
_TRANSPOSED = {k: v for k, v in get_op("ConvTranspose").attrs.items() if k not in ("pads", "output_shape")}


def _with_pads(attrs, pads) -> dict:
    return {**attrs, "pads": None if pads is None else tuple(int(p) for p in pads)}


def _expand_transposed(b: Builder, call: Call) -> Value:
    x, w, _, bias = operands(call, 4)
    pads = call.ints(2) if call.has(2) else None
    return b.add("ConvTranspose", x, w, bias, **_with_pads(call.attrs, pads))


_XW = (Tensor((1, 2, 4, 4)), Tensor((2, 3, 3, 3)))
composed(
    "ConvTransposeWithDynamicPads",
    "x w pads? b?",
    lambda x, w, pads=None, b=None, **attrs: applied("ConvTranspose", x, w, b, **_with_pads(attrs, pads)),
    _expand_transposed,
    [
        Case((*_XW, Const([1, 1, 1, 1])), {"strides": (2, 2)}),
        Case((*_XW, Const([0, 1, 1, 0]), Tensor((3,))), {"output_padding": (1, 1), "strides": (2, 2)}),
    ],
    _TRANSPOSED,
    values=(2,),
)


# --- MaxpoolWithMask --------------------------------------------------------------------------------------------------
def _masked_type(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, ("float32", "float64"))
    require_dtype(call, 1, ("int32",))
    x, mask = call.shape(0), call.shape(1)
    if len(mask) != len(x) or any(map(differ, x[2:], mask[2:])):
        raise call.fail(f"x has shape {x}, its mask {mask}", "both have the same rank and space")
    if 0 in mask[:2] and 0 not in x[:2]:
        raise call.fail(f"x has shape {x}, its mask {mask}", "a mask has one plane or more")
    return [TensorType(dtype, pool_shape(call))]


def _masked_pool(x, mask, *, kernel_shape, storage_order, **options):
    """The maximum of each window; a row of it (along the last axis) ends before its first 0 of the mask. Without elements it
    is the lowest number.

    As ONNX Runtime has it, the first element of a plane of two axes or more is never masked, and the mask of plane i begins at
    element i · size of a plane mod planes of the mask: one mask serves all.
    """
    g = windows(x.shape[2:], kernel_shape, **options)
    lowest = np.finfo(np.float32).min
    size, count = math.prod(x.shape[2:]), mask.shape[0] * mask.shape[1]
    if not count and x.size:
        raise InputError(f"x has shape {x.shape}, its mask {mask.shape}, which has no planes")
    starts = np.arange(x.shape[0] * x.shape[1]) * size % max(count, 1)
    planes = (mask.reshape(-1)[starts[:, None] + np.arange(size)] != 0).reshape(x.shape)
    if x.ndim > 3:
        first = (slice(None), slice(None), *[0] * (x.ndim - 2))
        planes[first] = True
    kept = np.logical_and.accumulate(window_view(planes, g, True), axis=-1)
    return np.where(kept, window_view(x, g, lowest), lowest).max(tuple(range(-len(g.kernel), 0))).astype(x.dtype)


register(
    Op(
        f"{DOMAIN}::MaxpoolWithMask",
        ("x", "mask"),
        _masked_type,
        _masked_pool,
        {
            **AUTO_PAD,
            **{k: v for k, v in WINDOW_ATTRS.items() if k != "dilations"},
            "storage_order": Attr(int, 0, (0, 1)),
        },
        tolerance=1e-7,  # exact, but for windows of nothing: the lowest float32 is no number of narrower types
        samples=Samples(
            names("float", bits=(32,)),
            cases=(
                Case(
                    (Tensor((1, 2, 4, 4)), Tensor((1, 2, 4, 4), 0, 1, "int32")),
                    {"kernel_shape": (2, 2), "strides": (2, 2)},
                ),
                Case(
                    (Tensor((2, 2, 4, 5)), Tensor((1, 1, 4, 5), 0, 1, "int32")),
                    {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)},
                ),
                Case((Tensor((1, 2, 9)), Tensor((1, 2, 9), 0, 1, "int32")), {"kernel_shape": (4,)}),
            ),
        ),
        family=Family.WINDOW,
    )
)

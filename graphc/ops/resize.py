"""Resize and Upsample, as one table of taps an axis: out[i] = sum over t of weights[i, t] * x[indices[i, t]].

Every interpolation mode of ONNX is separable, so that resizing an image is one such weighted sum an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphc.op import FLOATS, Attr, Call, Case, Const, Domain, Kind, Op, Tensor, register
from graphc.ops.precision import is_float, is_narrow
from graphc.ops.shape import axes_of
from graphc.types import Dim, Sym, TensorType

TRANSFORMS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)


class Taps(NamedTuple):
    """How one axis is resized. The result is the extrapolation value where `outside` holds."""

    indices: np.ndarray  # int64 [out, taps], each within the axis
    weights: np.ndarray  # float64 [out, taps], each row adds up to 1
    outside: np.ndarray  # bool [out]

    def is_identity(self, size: int) -> bool:
        """Does an axis of that size stay as it is?"""
        n, taps = self.indices.shape
        return n == size and taps == 1 and np.array_equal(self.indices[:, 0], np.arange(n)) and not self.outside.any()


class AxisScale(NamedTuple):
    """One axis of a Resize: sizes, the scale that maps positions, and the part of the axis that is resized."""

    size: int
    out: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def source_positions(axis: AxisScale, transform: str) -> np.ndarray:
    """Position in the input of each output element, float32 as runtimes compute it (ONNX Resize)."""
    f32 = np.float32
    i, scale = np.arange(axis.out, dtype=f32), f32(axis.scale)
    last, last_out = f32(axis.size - 1), f32(axis.out - 1)
    if transform == "asymmetric":
        return i / scale
    if transform == "align_corners":
        return i * last / last_out if axis.out > 1 else i * 0
    if transform == "tf_crop_and_resize":
        start, end = f32(axis.start), f32(axis.end)
        if axis.out == 1:
            return i + f32(0.5) * (start + end) * last
        return start * last + i * (end - start) * last / last_out
    half_pixel = (i + f32(0.5)) / scale - f32(0.5)
    if transform == "pytorch_half_pixel" and axis.out == 1:
        return i * 0
    if transform == "half_pixel_symmetric":
        adjustment = f32(axis.out) / (scale * f32(axis.size))
        return f32(axis.size) / 2 * (1 - adjustment) + half_pixel
    return half_pixel


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution kernel (Keys, IEEE Trans. ASSP 29, 1981, eq. 4)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


_NEAREST = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def axis_taps(
    axis: AxisScale,
    *,
    mode: str,
    transform: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
) -> Taps:
    """The taps of one axis. Positions beyond the edges read the edge, or nothing with `exclude_outside`.

    With `antialias`, shrinking stretches the kernel by 1/scale, so that all elements take part.
    """
    x = source_positions(axis, transform).astype(np.float64)
    outside = (x < 0) | (x > axis.size - 1) if transform == "tf_crop_and_resize" else np.zeros(axis.out, bool)
    if mode == "nearest":
        indices = _NEAREST[nearest_mode](x).astype(np.int64)[:, None]
        return Taps(np.clip(indices, 0, axis.size - 1), np.ones(indices.shape), outside)
    shrink = min(axis.scale, 1.0) if antialias else 1.0
    reach = 1 if mode == "linear" else 2
    first = math.floor(-reach / shrink) + 1
    indices = np.floor(x).astype(np.int64)[:, None] + np.arange(first, 2 - first)
    distance = (indices - x[:, None]) * shrink
    weights = _triangle(distance) if mode == "linear" else _cubic(distance, cubic_coeff_a)
    if exclude_outside:
        weights = np.where((indices >= 0) & (indices < axis.size), weights, 0)
    if exclude_outside or antialias:
        weights = weights / weights.sum(1, keepdims=True)
    used = (weights != 0).any(0)
    if axis.out and not used.all():  # a column of zeros costs a pass over the data
        indices, weights = indices[:, used], weights[:, used]
    return Taps(np.clip(indices, 0, axis.size - 1), weights, outside)


def apply_taps(x: np.ndarray, taps: Taps, axis: int) -> np.ndarray:
    """The weighted sum along one axis, in the dtype of x."""
    shape = [1] * x.ndim
    shape[axis] = -1
    terms = (
        np.take(x, taps.indices[:, t], axis) * taps.weights[:, t].astype(x.dtype).reshape(shape)
        for t in range(taps.indices.shape[1])
    )
    return sum(terms)


def floor_scaled(dim: Dim, scale: float) -> Dim:
    """floor(dim * scale), in float32 as runtimes compute it."""
    if isinstance(dim, int):
        return int(np.floor(np.float32(dim) * np.float32(scale)))
    if scale == int(scale):
        return dim * int(scale)
    if 1 / scale == int(1 / scale):
        return dim // int(1 / scale)
    return Sym(f"floor({scale:g}*({dim}))")


def resize_axes(
    shape: Sequence[Dim],
    axes: Sequence[int],
    roi: Sequence[float] | None,
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    policy: str,
) -> list[tuple[Dim, float | None, float, float]]:
    """(output dim, scale, start, end) of each of `axes`. The scale is None where a symbolic dim leaves it open."""
    k = len(axes)
    roi = [0.0] * k + [1.0] * k if roi is None else roi
    dims = [shape[a] for a in axes]
    if sizes is None:
        outs = [
            floor_scaled(d, float(np.float32(s * (roi[k + i] - roi[i])))) for i, (d, s) in enumerate(zip(dims, scales))
        ]
        return [(out, float(s), roi[i], roi[k + i]) for i, (out, s) in enumerate(zip(outs, scales))]
    known = all(isinstance(d, int) for d in dims)
    ratios = [s / d if isinstance(d, int) and d else None for s, d in zip(sizes, dims)]
    if policy == "stretch":
        return [(s, r, roi[i], roi[k + i]) for i, (s, r) in enumerate(zip(sizes, ratios))]
    if not known:
        names = ", ".join(map(str, dims))
        return [(Sym(f"{policy}({names} to {s})"), None, roi[i], roi[k + i]) for i, s in enumerate(sizes)]
    common = (min if policy == "not_larger" else max)(r for r in ratios if r is not None)
    return [(math.floor(common * d + 0.5), common, roi[i], roi[k + i]) for i, d in enumerate(dims)]


def _resize_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    axes = list(range(x.rank)) if call.axes is None else axes_of(call, list(call.axes), x.rank)
    scales = [float(v) for v in call.const(2).reshape(-1)] if call.has(2) and call.shape(2) != (0,) else None
    sizes = call.ints(3) if call.has(3) and call.shape(3) != (0,) else None
    if (scales is None) == (sizes is None):
        raise call.fail("needs either scales or sizes")
    given = scales if sizes is None else sizes
    if len(given) != len(axes) or min(given) <= 0:
        raise call.fail(
            f"{'scales' if sizes is None else 'sizes'} {given} must be {len(axes)} positive numbers for {x}"
        )
    roi = None
    if call.coordinate_transformation_mode == "tf_crop_and_resize":
        if not call.has(1) or call.const(1).size != 2 * len(axes):
            raise call.fail(
                f"tf_crop_and_resize needs a roi of {2 * len(axes)} numbers: all the starts, then all the ends"
            )
        roi = call.const(1).reshape(-1).tolist()
    dims = list(x.shape)
    for axis, (out, *_) in zip(axes, resize_axes(x.shape, axes, roi, scales, sizes, call.keep_aspect_ratio_policy)):
        dims[axis] = out
    return [x.with_shape(dims)]


def _resize_flops(call: Call) -> int:
    """A multiply and an add for each tap of each axis that changes; antialias taps are not counted."""
    x, y = call.type(0), _resize_type(call)[0]
    changed = sum(a != b for a, b in zip(x.shape, y.shape))
    return 2 * int(y.size) * changed * {"nearest": 0, "linear": 2, "cubic": 4}[call.mode]


def resize_plan(
    shape: Sequence[int],
    roi: np.ndarray | None,
    scales: np.ndarray | None,
    sizes: np.ndarray | None,
    *,
    antialias: bool,
    axes: Sequence[int] | None,
    coordinate_transformation_mode: str,
    cubic_coeff_a: float,
    exclude_outside: bool,
    extrapolation_value: float,
    keep_aspect_ratio_policy: str,
    mode: str,
    nearest_mode: str,
) -> list[tuple[int, Taps]]:
    """(axis, taps) of each axis that Resize changes, for static sizes, its constant operands and its attributes."""
    axes = range(len(shape)) if axes is None else [a % len(shape) for a in axes]
    crop = coordinate_transformation_mode == "tf_crop_and_resize"
    parts = resize_axes(
        shape,
        axes,
        np.ravel(roi).tolist() if crop else None,
        None if scales is None or scales.size == 0 else np.ravel(scales).tolist(),
        None if sizes is None or sizes.size == 0 else [int(s) for s in np.ravel(sizes)],
        keep_aspect_ratio_policy,
    )
    plan = []
    for axis, (out, scale, start, end) in zip(axes, parts):
        taps = axis_taps(
            AxisScale(shape[axis], int(out), 1.0 if scale is None else scale, start, end),
            mode=mode,
            transform=coordinate_transformation_mode,
            nearest_mode=nearest_mode,
            cubic_coeff_a=cubic_coeff_a,
            antialias=antialias,
            exclude_outside=exclude_outside,
        )
        if not taps.is_identity(shape[axis]):
            plan.append((axis, taps))
    return plan


def _resize(x, roi=None, scales=None, sizes=None, **attrs):
    exact = attrs["mode"] == "nearest"
    narrow = is_narrow(x.dtype) or not is_float(x.dtype)
    y = x if exact or not narrow else x.astype(np.float32)
    plan = resize_plan(x.shape, roi, scales, sizes, **attrs)
    for axis, taps in plan:
        y = np.take(y, taps.indices[:, 0], axis) if exact else apply_taps(y, taps, axis)
    for axis, taps in plan:
        if taps.outside.any():
            y = y.copy()
            np.moveaxis(y, axis, 0)[taps.outside] = attrs["extrapolation_value"]
    if y.dtype != x.dtype and x.dtype.kind in "iu":  # integers truncate, and stay within their range
        info = np.iinfo(x.dtype)
        y = np.clip(np.trunc(y), info.min, info.max)
    return y.astype(x.dtype, copy=False)


_ATTRS = {
    "antialias": Attr(bool, False),
    "axes": Attr("ints", None),
    "coordinate_transformation_mode": Attr(str, "half_pixel", TRANSFORMS),
    "cubic_coeff_a": Attr(float, -0.75),
    "exclude_outside": Attr(bool, False),
    "extrapolation_value": Attr(float, 0.0),
    "keep_aspect_ratio_policy": Attr(str, "stretch", ("stretch", "not_larger", "not_smaller")),
    "mode": Attr(str, "nearest", ("nearest", "linear", "cubic")),
    "nearest_mode": Attr(str, "round_prefer_floor", tuple(_NEAREST)),
}


def _case(shape, scales=None, sizes=None, roi=None, **attrs) -> Case:
    def operand(value, dtype):
        return None if value is None else Const(value, dtype)

    inputs = (Tensor(shape), operand(roi, "float32"), operand(scales, "float32"), operand(sizes, "int64"))
    return Case(inputs if sizes is not None else inputs[:3], attrs)


_IMAGE = (1, 2, 5, 4)
_UP, _DOWN, _TO = [1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.6, 0.75], [1, 2, 7, 3]
_TARGETS = ({"scales": _UP}, {"sizes": _TO})
_SCALED = tuple({"coordinate_transformation_mode": t} for t in TRANSFORMS if t != "tf_crop_and_resize")

register(
    Op(
        "Resize",
        ("x", "roi?", "scales?", "sizes?"),
        Kind.WINDOW,
        _resize_type,
        _resize,
        _ATTRS,
        tolerance=1e-5,
        flops=_resize_flops,
        values=(1, 2, 3),
        domain=Domain(
            FLOATS,
            cases=(
                *(_case(_IMAGE, **to, mode=m, **t) for to in _TARGETS for m in ("linear", "cubic") for t in _SCALED),
                *(_case(_IMAGE, _UP, nearest_mode=n, **t) for n in _NEAREST for t in _SCALED),
                *(_case(_IMAGE, sizes=_TO, nearest_mode=n) for n in _NEAREST),
                *(_case(_IMAGE, _DOWN, mode=m, antialias=True) for m in ("linear", "cubic")),
                *(_case(_IMAGE, _UP, mode=m, antialias=True) for m in ("linear", "cubic")),
                _case(_IMAGE, _DOWN, mode="cubic", exclude_outside=True, cubic_coeff_a=-0.5),
                _case(_IMAGE, [2.0, 0.5], mode="linear", axes=(3, 2)),
                _case(_IMAGE, sizes=[7, 9], axes=(2, 3), keep_aspect_ratio_policy="not_larger"),
                _case(_IMAGE, sizes=[7, 9], axes=(2, 3), keep_aspect_ratio_policy="not_smaller"),
                *(
                    _case(
                        _IMAGE,
                        sizes=[1, 2, 3, 6],
                        roi=[0, 0, 0.4, 0.6, 1, 1, 0.6, 1.7],
                        mode=m,
                        coordinate_transformation_mode="tf_crop_and_resize",
                        extrapolation_value=10.0,
                    )
                    for m in ("nearest", "linear", "cubic")
                ),
            ),
        ),
    )
)


def _upsampled(call: Call) -> list[TensorType]:
    x, scales = call.type(0), call.const(1).reshape(-1).tolist()
    if len(scales) != x.rank or min(scales, default=1) < 1:
        raise call.fail(f"scales {scales} must be {x.rank} numbers of 1 or more for {x}")
    return [x.with_shape([floor_scaled(d, s) for d, s in zip(x.shape, scales)])]


def _as_resize(mode: str) -> dict:
    """Attributes of Resize that mean Upsample: positions i / scale, the nearest below."""
    defaults = {k: a.default for k, a in _ATTRS.items()}
    return {**defaults, "mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


register(  # Resize before opset 10
    Op(
        "Upsample",
        ("x", "scales"),
        Kind.COMPOSITE,
        _upsampled,
        lambda x, scales, mode: _resize(x, None, scales, **_as_resize(mode)),
        {"mode": Attr(str, "nearest", ("nearest", "linear"))},
        expand=lambda b, call: b.add("Resize", call.inputs[0], None, call.inputs[1], **_as_resize(call.mode)),
        values=(1,),
        domain=Domain(
            FLOATS,
            cases=tuple(
                Case((Tensor((1, 2, 3, 4)), Const(s, "float32")), {"mode": m})
                for m in ("nearest", "linear")
                for s in ([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 1.5, 1.0])
            ),
        ),
    )
)

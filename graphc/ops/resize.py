"""Resize and Upsample, as one table of taps per axis: out[i] = sum over t of weights[i, t] * x[indices[i, t]].

Every interpolation mode of ONNX is separable, so that resizing an image is one such weighted sum per axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_float, is_narrow
from graphc.expr import Number
from graphc.op import FLOATS, Attr, Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops._taps import (
    NEAREST,
    TRANSFORMS,
    AxisScale,
    Ratio,
    TapRule,
    Taps,
    apply_taps,
    axis_taps,
    simplest_fraction,
    tap_rule,
)
from graphc.ops.elementwise import require
from graphc.ops.precision import FLOAT32, NUMERIC
from graphc.ops.shape import axes_of
from graphc.sizes import has_sizes, is_size, pinned, whole
from graphc.types import Dim, Sym, TensorType, number

LARGEST_SCALED = 1 << 16  # sizes that stand for many, of a scale that is no whole number


def floor_scaled(dim: Dim, scale: float) -> Dim:
    """floor(dim * scale), in float32 as runtimes compute it."""
    if isinstance(dim, int) and not is_size(dim):
        return int(np.floor(np.float32(dim) * np.float32(scale)))
    if scale == int(scale):
        return dim * int(scale)
    if 1 / scale == int(1 / scale):
        return dim // int(1 / scale)
    return floor_of_many(number(dim), scale) if is_size(dim) else Sym(f"floor({scale:g}*({dim}))")


def floor_of_many(size: int, scale: float) -> int:
    """floor(size * scale) by whole numbers that give what float32 does; a guard says up to which size they do so."""
    n = np.arange(LARGEST_SCALED)
    computed = np.floor(n.astype(FLOAT32) * np.float32(scale))
    ratio = simplest_fraction(scale)
    if ratio.numerator < LARGEST_SCALED:
        differs = np.flatnonzero(n * ratio.numerator // ratio.denominator != computed)
        if 0 <= size < (int(differs[0]) if len(differs) else LARGEST_SCALED):
            return size * ratio.numerator // ratio.denominator
    return int(np.floor(np.float32(int(size)) * np.float32(scale)))


def resize_axes(
    shape: Sequence[Dim],
    axes: Sequence[int],
    roi: Sequence[Fraction] | None,
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    policy: str,
) -> list[tuple[Dim, Fraction | Ratio | None, Fraction, Fraction]]:
    """(output dim, scale, start, end) of each of `axes`. The scale is None where a symbolic dim leaves it open."""
    k = len(axes)
    roi = [Fraction(0)] * k + [Fraction(1)] * k if roi is None else roi
    dims = [shape[a] for a in axes]
    if sizes is None:
        assert scales is not None
        outs = [
            floor_scaled(d, float(np.float32(s * float(roi[k + i] - roi[i]))))
            for i, (d, s) in enumerate(zip(dims, scales))
        ]
        return [(out, simplest_fraction(s), roi[i], roi[k + i]) for i, (out, s) in enumerate(zip(outs, scales))]
    known = all(isinstance(d, int) for d in dims)
    ratios = [_ratio(s, d) if isinstance(d, int) and d else None for s, d in zip(sizes, dims)]
    if policy == "stretch":
        return [(s, r, roi[i], roi[k + i]) for i, (s, r) in enumerate(zip(sizes, ratios))]
    if not known:
        what = f"{', '.join(map(str, dims))} to {', '.join(map(str, sizes))}"
        return [(Sym(f"{policy}({d} of {what})"), None, roi[i], roi[k + i]) for i, d in enumerate(dims)]
    common = _extreme([r for r in ratios if r is not None], policy == "not_larger")
    p, q = common.numerator, common.denominator
    return [((2 * p * number(d) + q) // (2 * q), common, roi[i], roi[k + i]) for i, d in enumerate(dims)]


def _ratio(a: int, b: int) -> Fraction | Ratio:
    return Ratio(a, b) if is_size(a) or is_size(b) else Fraction(a, b)


def _extreme(ratios: Sequence[Fraction | Ratio], smallest: bool) -> Fraction | Ratio:
    found, *rest = ratios or [Fraction(1)]
    for r in rest:
        if (r.numerator * found.denominator < found.numerator * r.denominator) == smallest:
            found = r
    return found


def _fractions(roi: np.ndarray) -> list[Fraction]:
    return [simplest_fraction(v, roi.dtype) for v in roi.reshape(-1)]


def _resize_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if call.attrs.mode != "nearest":
        require(call, NUMERIC, x.dtype)
    axes = list(range(x.rank)) if call.attrs.axes is None else axes_of(call, list(call.attrs.axes), x.rank)
    scales = [float(v) for v in call.const(2).reshape(-1)] if call.has(2) and call.shape(2) != (0,) else None
    sizes = call.ints(3) if call.has(3) and call.shape(3) != (0,) else None
    if (scales is None) == (sizes is None):
        raise call.fail("needs either scales or sizes")
    given = scales if sizes is None else sizes
    assert given is not None
    if len(given) != len(axes) or not all(v > 0 and (is_size(v) or v < math.inf) for v in given):
        raise call.fail(
            f"{'scales' if sizes is None else 'sizes'} {given} must be {len(axes)} positive numbers for {x}"
        )
    roi = None
    if call.attrs.coordinate_transformation_mode == "tf_crop_and_resize":
        if not call.has(1) or call.const(1).size != 2 * len(axes):
            raise call.fail(
                f"tf_crop_and_resize needs a roi of {2 * len(axes)} numbers: all the starts, then all the ends"
            )
        if not np.isfinite(call.const(1).astype(np.float64)).all():
            raise call.fail(f"roi {call.const(1).reshape(-1).tolist()} has entries that are not finite")
        roi = _fractions(call.const(1))
    dims = list(x.shape)
    for axis, (out, *_) in zip(
        axes, resize_axes(x.shape, axes, roi, scales, sizes, call.attrs.keep_aspect_ratio_policy)
    ):
        if x.shape[axis] == 0 and out != 0:
            raise call.fail(f"axis {axis} of {x} has no elements, of which {out} could be made")
        dims[axis] = out
    return [x.with_shape(dims)]


def _resize_flops(call: Call) -> int:
    """A multiply and an add for each tap of each axis that changes; antialias taps are not counted."""
    x, y = call.type(0), _resize_type(call)[0]
    changed = sum(a != b for a, b in zip(x.shape, y.shape))
    return 2 * number(y.size) * changed * {"nearest": 0, "linear": 2, "cubic": 4}[call.attrs.mode]


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
) -> list[tuple[int, Taps | TapRule]]:
    """(axis, taps) of each axis that Resize changes, for static sizes, its constant operands and its attributes. Rules where
    a size stands for many."""
    axes = range(len(shape)) if axes is None else [a % len(shape) for a in axes]
    crop = coordinate_transformation_mode == "tf_crop_and_resize"
    parts = resize_axes(
        shape,
        axes,
        _fractions(roi) if crop and roi is not None else None,
        None if scales is None or scales.size == 0 else np.ravel(scales).tolist(),
        None if sizes is None or sizes.size == 0 else [whole(s) for s in np.ravel(sizes)],
        keep_aspect_ratio_policy,
    )
    attrs: dict[str, Any] = {
        "mode": mode, "transform": coordinate_transformation_mode, "nearest_mode": nearest_mode,
        "cubic_coeff_a": cubic_coeff_a, "antialias": antialias, "exclude_outside": exclude_outside,
    }  # fmt: skip
    many = has_sizes([*shape, *(out for out, *_ in parts)])
    plan = []
    for axis, (out, scale, start, end) in zip(axes, parts):
        part = AxisScale(shape[axis], number(out), Fraction(1) if scale is None else scale, start, end)
        taps = _changed(part, many, attrs)
        if taps is not None:
            plan.append((axis, taps))
    return plan


def _changed(axis: AxisScale, many: bool, attrs: Mapping[str, Any]) -> Taps | TapRule | None:
    """None where the axis stays. many: may some size of the operator stand for many?"""
    crop = attrs["transform"] == "tf_crop_and_resize"
    if is_size(axis.size) and not crop and not is_size(axis.out - axis.size) and axis.out == axis.size:
        return None
    many = many and not crop and not attrs["antialias"]  # taps by values of positions, or as many as the scale says
    if many:
        rule = tap_rule(axis, **attrs)
        if rule.of_many and rule.positions.fit:
            return rule
    axis = _with_numbers(axis)
    taps = axis_taps(axis, **attrs)
    if taps.is_identity(axis.size):
        return None
    return tap_rule(axis, **attrs) if many else taps


def _with_numbers(axis: AxisScale) -> AxisScale:
    scale = Fraction(pinned(axis.scale.numerator), pinned(axis.scale.denominator))
    return axis._replace(size=pinned(axis.size), out=pinned(axis.out), scale=scale)


def interpolation_dtype(dtype: np.dtype) -> np.dtype:
    """What sums of an interpolation are kept in: 8 bits and narrow floats fit float32, wider integers need float64."""
    if is_float(dtype):
        return FLOAT32 if is_narrow(dtype) else dtype
    return FLOAT32 if dtype.itemsize == 1 else np.dtype(np.float64)


SLACK = 7e-4
"""What float32 sums of 8-bit numbers may lack of the whole number that they would be: a grey image stays as it is."""


def whole_number(x: Number, antialias: bool) -> Number:
    """An interpolated integer: cut off, or with antialias rounded, halves up (ONNX Runtime; Pillow with antialias)."""
    if antialias:
        return e.floor(x + (0.5 + SLACK))
    return e.where(x < 0, e.trunc(x - SLACK), e.trunc(x + SLACK))


def _resize(x, roi=None, scales=None, sizes=None, **attrs):
    exact = attrs["mode"] == "nearest"
    wide = np.dtype(np.float64) if not is_float(x.dtype) else interpolation_dtype(x.dtype)
    y = x if exact else x.astype(wide)
    plan = [(axis, t) for axis, t in resize_plan(x.shape, roi, scales, sizes, **attrs) if isinstance(t, Taps)]
    for axis, taps in plan:
        y = np.take(y, taps.indices[:, 0], axis) if exact else apply_taps(y, taps, axis)
    for axis, taps in plan:
        if taps.outside.any():
            y = y.copy()
            np.moveaxis(y, axis, 0)[taps.outside] = attrs["extrapolation_value"]
    if y.dtype != x.dtype and not is_float(x.dtype):
        y = np.floor(y + 0.5 + SLACK) if attrs["antialias"] else np.trunc(y + np.copysign(SLACK, y))
        info = np.iinfo(x.dtype)
        y = np.clip(y, info.min, info.max)
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
    "nearest_mode": Attr(str, "round_prefer_floor", tuple(NEAREST)),
}


def _case(shape, scales=None, sizes=None, roi=None, **attrs) -> Case:
    def operand(value, dtype):
        return None if value is None else Const(value, dtype)

    inputs = (Tensor(shape), operand(roi, "float32"), operand(scales, "float32"), operand(sizes, "int64"))
    return Case(inputs if sizes is not None else inputs[:3], attrs)


_IMAGE = (1, 2, 5, 4)
_UP, _DOWN, _TO = [1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.6, 0.75], [1, 2, 7, 3]
_TARGETS = ({"scales": _UP}, {"sizes": _TO})
_OTHERS = ("tf_crop_and_resize", "tf_half_pixel_for_nn")  # the first needs a roi, ONNX's reference lacks the second
_SCALED = tuple({"coordinate_transformation_mode": t} for t in TRANSFORMS if t not in _OTHERS)

register(
    Op(
        "Resize",
        ("x", "roi?", "scales?", "sizes?"),
        _resize_type,
        _resize,
        _ATTRS,
        tolerance=1e-5,
        flops=_resize_flops,
        values=(1, 2, 3),
        samples=Samples(
            FLOATS,
            cases=(
                *(_case(_IMAGE, **to, mode=m, **t) for to in _TARGETS for m in ("linear", "cubic") for t in _SCALED),
                *(_case(_IMAGE, _UP, nearest_mode=n, **t) for n in NEAREST for t in _SCALED),
                *(_case(_IMAGE, sizes=_TO, nearest_mode=n) for n in NEAREST),
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
                        roi=[0, 0, 0.375, 0.625, 1, 1, 0.625, 1.75],
                        mode=m,
                        coordinate_transformation_mode="tf_crop_and_resize",
                        extrapolation_value=10.0,
                    )
                    for m in ("nearest", "linear", "cubic")
                ),
            ),
        ),
        windowed=True,
    )
)


def _upsampled(call: Call) -> list[TensorType]:
    x, scales = call.type(0), call.const(1).reshape(-1).tolist()
    if len(scales) != x.rank or not all(1 <= v < math.inf for v in scales):
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
        _upsampled,
        lambda x, scales, mode: _resize(x, None, scales, **_as_resize(mode)),
        {"mode": Attr(str, "nearest", ("nearest", "linear"))},
        expand=lambda b, call: b.add("Resize", call.inputs[0], None, call.inputs[1], **_as_resize(call.attrs.mode)),
        values=(1,),
        samples=Samples(
            FLOATS,
            cases=tuple(
                Case((Tensor((1, 2, 3, 4)), Const(s, "float32")), {"mode": m})
                for m in ("nearest", "linear")
                for s in ([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 1.5, 1.0])
            ),
        ),
    )
)

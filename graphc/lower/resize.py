"""Resize: one weighted sum per axis for linear and cubic interpolation, tables of positions for nearest-neighbour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_float
from graphc.expr import Expr
from graphc.graph import Node
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.limits import TABLE_AXES
from graphc.lower.lowering import Lowering
from graphc.lower.pad import emit_tables
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.lower.verbs import Blend, around
from graphc.ops._positions import OUTSIDE, Reads
from graphc.ops._taps import TapRule, Taps
from graphc.ops.resize import interpolation_dtype, resize_plan, whole_number

Plan: TypeAlias = Sequence[tuple[int, Taps | TapRule]]  # axes, in order


def _supported(node: Node, target: Any = None) -> str | None:
    t = node.inputs[0].type
    if t.rank > TABLE_AXES:
        return f"rank above {TABLE_AXES}"
    if t.dtype == np.bool_ and node.attrs["mode"] != "nearest":
        return "bool is not a number to interpolate"
    return native_dtypes(node)


@lowers("Resize", supported=_supported, channels_last=lambda node: "packed")
def lower_resize(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    out = lo.write(node.output)
    x = lo.read(node.inputs[0], out.channels_last)
    t = node.output.type
    if t.elements == 0:
        return
    given = [v.data if v is not None else None for v in node.inputs[1:]] + [None] * (4 - len(node.inputs))
    plan = resize_plan(x.type.extents, *given, **node.attrs)
    fill = constant(lo, np.array([node.attrs["extrapolation_value"]]).astype(t.dtype)).ref
    if node.attrs["mode"] == "nearest" or not plan:
        _nearest(lo, group, x, out, plan, fill)
        return
    _interpolate(lo, group, x, out.ref, plan)
    for axis, taps in plan:
        if isinstance(taps, Taps):
            _fill_outside(lo, group, out, axis, taps, fill)


def _nearest(lo: Lowering, group: Group, x: Storage, out: Storage, plan: Plan, fill: Ref) -> None:
    axes: list[Reads | np.ndarray | None] = [None] * x.type.rank
    for axis, taps in plan:
        axes[axis] = taps.reads if isinstance(taps, TapRule) else np.where(taps.outside, OUTSIDE, taps.indices[:, 0])
    emit_tables(lo, x, out, axes, fill, lo.info(group, "copy_tables", "nearest"))


def _interpolate(lo: Lowering, group: Group, x: Storage, out: Ref, plan: Plan) -> None:
    """Axes that shrink first, then the innermost: what the last steps touch is large, and they run along rows."""
    node = group.nodes[0]
    result, dtype = node.output.dtype, x.type.dtype
    wide = interpolation_dtype(dtype)
    shape, source, name = [x.type.extents[a] for a in x.order], x.ref, node.output.name
    plan = [(x.order.index(axis), taps) for axis, taps in plan]
    steps = sorted(plan, key=lambda step: (step[1].count >= shape[step[0]], -step[0]))
    for i, (axis, taps) in enumerate(steps):
        last = i == len(steps) - 1
        before = tuple(shape)
        shape[axis] = taps.count
        to = out if last else Ref(Buffer(f"{name}/axis{axis}", math.prod(shape) * wide.itemsize))
        narrowed = _narrowed(e.arg(0, wide), result if last else wide, node.attrs["antialias"])
        _blend(lo, group, source, dtype, before, axis, taps, to, e.cast(e.arg(0, dtype), wide), narrowed)
        source, dtype = to, wide


def _narrowed(x: Expr, dtype: np.dtype, antialias: bool) -> Expr:
    """In the result's dtype: integers are whole, and stay within their range."""
    if is_float(dtype):
        return e.cast(x, dtype)
    limits = np.iinfo(dtype)
    return e.cast(e.clamp(whole_number(x, antialias), float(limits.min), float(limits.max)), dtype)


def _blend(
    lo: Lowering,
    group: Group,
    x: Ref,
    dtype: np.dtype,
    shape: Sequence[int],
    axis: int,
    taps: Taps | TapRule,
    out: Ref,
    term: Expr,
    finish: Expr,
) -> None:
    info = lo.info(group, "blend", group.nodes[0].attrs["mode"], f"axis {axis}, {taps.width} taps")
    sums = Blend(x, out, dtype, around(shape, axis), taps, term, finish)
    lo.blend(sums, group.output.name, info)


def _fill_outside(lo: Lowering, group: Group, out: Storage, axis: int, taps: Taps, fill: Ref) -> None:
    """Write the extrapolation value where the axis lies outside of the input."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], taps.outside, [False]]).astype(np.int8)))
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist()):
        shape = [end - first if i == axis else d for i, d in enumerate(out.type.extents)]
        to = out.ref + first * out.strides[axis]
        info = lo.info(group, "copy_strided", "", "extrapolation")
        lo.copy(fill, [0] * len(shape), to, out.strides, shape, out.type.dtype.itemsize, info)

"""Resize: one weighted sum an axis for linear and cubic interpolation, tables of positions for nearest-neighbour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc import expr as e
from graphc.backends.cpu.blocks.resize import BLEND_AXIS
from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.index import constant
from graphc.backends.cpu.lower.movement import emit_strided
from graphc.backends.cpu.lower.pad import OUTSIDE, emit_tables
from graphc.backends.cpu.lower.reduce import Record, around, emit_passes
from graphc.backends.cpu.lower.registry import lowers, native_dtypes
from graphc.backends.cpu.sizes import TABLE_DIMS
from graphc.backends.cpu.storage import Buffer, Ref, Storage, dense_strides
from graphc.dtypes import is_float
from graphc.expr import Expr
from graphc.fuse import Group
from graphc.graph import Node
from graphc.ops._taps import Taps
from graphc.ops.resize import interpolation_dtype, resize_plan, whole_number
from graphc.types import TensorType

SHORT = 8  # elements that are too few for a row of vectors
REACH = 1 << 31  # bytes that the int32 offsets of `blend_elements` reach


def _supported(node: Node, target=None) -> str | None:
    t = node.inputs[0].type
    if t.rank > TABLE_DIMS + 1:
        return f"rank above {TABLE_DIMS + 1}"
    if t.dtype == np.bool_ and node.attrs["mode"] != "nearest":
        return "bool is not a number to interpolate"
    return native_dtypes(node)


@lowers("Resize", supported=_supported)
def lower_resize(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    t = node.output.type
    if t.size == 0:
        return
    given = [v.data if v is not None else None for v in node.inputs[1:]] + [None] * (4 - len(node.inputs))
    plan = resize_plan(x.type.shape, *given, **node.attrs)
    fill = constant(lo, np.array([node.attrs["extrapolation_value"]]).astype(t.dtype)).ref
    if node.attrs["mode"] == "nearest" or not plan:
        _nearest(lo, group, x, out.ref, plan, fill)
        return
    _interpolate(lo, group, x, out.ref, plan)
    for axis, taps in plan:
        _fill_outside(lo, group, out, axis, taps, fill)


def _nearest(lo: Lowering, group: Group, x: Storage, out: Ref, plan: Sequence[tuple[int, Taps]], fill: Ref) -> None:
    axes: list[np.ndarray | None] = [None] * x.type.rank
    for axis, taps in plan:
        axes[axis] = np.where(taps.outside, OUTSIDE, taps.indices[:, 0])
    emit_tables(lo, x, out, axes, fill, lo.info(group, "copy_tables", "nearest"))


def _interpolate(lo: Lowering, group: Group, x: Storage, out: Ref, plan: Sequence[tuple[int, Taps]]) -> None:
    """Axes that shrink first, then the innermost: what the last steps touch is large, and they run along rows."""
    node = group.nodes[0]
    result, dtype = node.output.dtype, x.type.dtype
    wide = interpolation_dtype(dtype)
    shape, source, name = list(x.type.shape), x.ref, node.output.name
    order = sorted(plan, key=lambda step: (len(step[1].indices) >= shape[step[0]], -step[0]))
    for i, (axis, taps) in enumerate(order):
        last = i == len(order) - 1
        before = tuple(shape)
        shape[axis] = len(taps.indices)
        to = out if last else Ref(Buffer(f"{name}/axis{axis}", int(np.prod(shape)) * wide.itemsize))
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
    lo: Lowering, group: Group, x: Ref, dtype, shape, axis: int, taps: Taps, out: Ref, term: Expr, finish: Expr
) -> None:
    outer, size, inner = around(shape, axis)
    n, count = taps.indices.shape
    info = lo.info(group, "blend", group.nodes[0].attrs["mode"], f"axis {axis}, {count} taps")
    if inner < SHORT and size * inner * dtype.itemsize <= REACH:  # as one row of n * inner elements
        places = taps.indices.T[:, :, None] * inner + np.arange(inner)
        offsets = constant(lo, (places.reshape(count, -1) * dtype.itemsize).astype(np.int32))
        weights = constant(lo, np.repeat(taps.weights.T, inner, 1).astype(term.dtype))
        records = [
            Record(x, [size * inner * dtype.itemsize]),
            Record(out, [n * inner * finish.dtype.itemsize]),
            Record(offsets.ref, [0]),
            Record(weights.ref, [0]),
        ]
        emit_passes(lo, Kernel("blend_elements", (term, finish)), [outer], records, count, n * inner, info)
        return
    row = inner * dtype.itemsize
    offsets, weights = constant(lo, taps.indices * row), constant(lo, taps.weights)
    scratch, stride = lo.scratch(group.output.name, 8 + 16 * count)
    args = BLEND_AXIS(
        micro=Kernel("blend_rows", (term, finish)), x=x, y=out, outer=outer, out=n, inner=inner, x_bytes=size * row,
        row_bytes=inner * finish.dtype.itemsize, taps=count, offsets=offsets.ref, weights=weights.ref,
        scratch=scratch, scratch_stride=stride,
    )  # fmt: skip
    lo.emit(Kernel("blend_axis"), args, info)


def _fill_outside(lo: Lowering, group: Group, out: Storage, axis: int, taps: Taps, fill: Ref) -> None:
    """Write the extrapolation value where the axis lies outside of the input."""
    strides = dense_strides(TensorType(out.type.dtype, out.type.shape))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], taps.outside, [False]]).astype(np.int8)))
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist()):
        shape = [end - first if i == axis else d for i, d in enumerate(out.type.shape)]
        to = out.ref + first * strides[axis]
        info = lo.info(group, "copy_strided", "", "extrapolation")
        emit_strided(lo, fill, [0] * len(shape), to, strides, shape, out.type.dtype.itemsize, info)

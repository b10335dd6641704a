"""Operators that read at positions which come from data, and what those share with scatter.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc import expr as e
from graphc.graph import Node, Value
from graphc.lower.checks import OutOfRange
from graphc.lower.constants import constant
from graphc.lower.elementwise import emit_map
from graphc.lower.fuse import Group
from graphc.lower.limits import INDEX_DIMS
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers, moved_dtypes, native_dtypes
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.lower.strides import collapse
from graphc.lower.verbs import Lookup
from graphc.types import TensorType


def positions(lo: Lowering, group: Group, v: Value) -> Storage:
    """An operand of positions, as int32 or int64."""
    x = lo.read(v)
    if v.dtype.name in ("int32", "int64"):
        return x
    t = TensorType(np.int64, v.shape)
    wide = Storage(Ref(Buffer(f"{v.name}/int64", t.nbytes)), t, dense_strides(t))
    plain = replace(group, anchor=None, expression=e.cast(e.arg(0, v.dtype), np.int64), operands=(v,))
    if t.elements:
        emit_map(lo, plain, [t.elements], [[8], [v.dtype.itemsize]], [wide, x])
    return wide


def out_of_range(
    node: Node,
    shape: Sequence[int],
    sizes: Sequence[int],
    axes: Sequence[int | str],
    what: str = "index",
    negative: bool = True,
) -> OutOfRange:
    """The error for a position: number among the positions of `shape`, whose last dim is the axes' if they are several."""

    return OutOfRange(node.op.name, node.name, node.source, tuple(shape), tuple(sizes), tuple(axes), what, negative)


def limits(node: Node, target: Any = None) -> str | None:
    """At most INDEX_DIMS loops."""
    if max(v.type.rank for v in node.operands) > INDEX_DIMS:
        return f"operands of rank above {INDEX_DIMS}"
    return native_dtypes(node) if node.attrs.get("reduction", "none") != "none" else moved_dtypes(node)


def element_limits(node: Node, target: Any = None) -> str | None:
    """The same of a position for each element, where loops that walk data and positions as one are one."""
    data, index = (v.type for v in node.operands[:2])
    if index.rank > INDEX_DIMS and data.is_static and index.is_static:
        loops, _ = collapse(list(index.extents), [list(dense_strides(index)), own_strides(node)])
        if len(loops) > INDEX_DIMS:
            return f"positions over {len(loops)} loops, of {INDEX_DIMS} at most"
    return native_dtypes(node)


def own_strides(node: Node) -> list[int]:
    """Of a position for each element: bytes that the place itself advances along each axis."""
    t = node.inputs[0].type
    axis = node.attrs["axis"] % t.rank
    return [0 if i == axis else s for i, s in enumerate(dense_strides(t))]


# --- reading ----------------------------------------------------------------------------------------------------------
def _emit_gather(lo: Lowering, group: Group, x: Storage, lookup: Lookup, block: int, where: Sequence[int]) -> None:
    node = group.nodes[0]
    out = lo.write(node.output)
    if lookup.count == 0:
        return
    check = out_of_range(node, lookup.index.type.extents, [size for size, _ in lookup.axes], where)
    lo.gather(lookup, x.ref, out.ref, block, check, lo.info(group, "gather"))


def gather_along(lo: Lowering, group: Group, x: Storage, shape: Sequence[int], axis: int, index: Storage) -> None:
    """Blocks of everything after `axis`, for each of what is before it and each position."""
    outer, size, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    block = inner * x.type.dtype.itemsize
    if outer == 0:  # nothing is read, but positions are looked at
        outer, block = 1, 0
    dims = [outer, index.type.elements]
    index_strides, data_strides = [0, index.type.dtype.itemsize], [size * block, 0]
    lookup = Lookup(index, dims, index_strides, data_strides, [(size, block)])
    _emit_gather(lo, group, x, lookup, block, [axis])


@lowers("Gather", supported=moved_dtypes)
def lower_gather(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.read(node.inputs[0])
    gather_along(lo, group, x, x.type.extents, node.attrs["axis"] % x.type.rank, positions(lo, group, node.inputs[1]))


@lowers("GatherElements", supported=element_limits)
def lower_gather_elements(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, index = lo.read(node.inputs[0]), positions(lo, group, node.inputs[1])
    t, axis = x.type, node.attrs["axis"] % x.type.rank
    axes = [(t.extents[axis], dense_strides(t)[axis])]
    lookup = Lookup(index, index.type.extents, index.strides, own_strides(node), axes)
    _emit_gather(lo, group, x, lookup, t.dtype.itemsize, [axis])


@lowers("GatherND", supported=limits)
def lower_gather_nd(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, index = lo.read(node.inputs[0]), positions(lo, group, node.inputs[1])
    t, batch = x.type, node.attrs["batch_dims"]
    k = index.type.extents[-1]
    strides = dense_strides(t)
    own = [strides[i] if i < batch else 0 for i in range(index.type.rank - 1)]
    axes = list(zip(t.extents, strides))[batch : batch + k]
    block = math.prod(t.extents[batch + k :]) * t.dtype.itemsize
    lookup = Lookup(index, index.type.extents[:-1], index.strides[:-1], own, axes)
    _emit_gather(lo, group, x, lookup, block, range(batch, batch + k))


def _known_condition(node: Node, target: Any = None) -> str | None:
    if not node.inputs[1].is_const:
        return "the shape of its result follows from data"
    return moved_dtypes(node)


@lowers("Compress", supported=_known_condition)
def lower_compress(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.read(node.inputs[0])
    index = constant(lo, np.flatnonzero(node.inputs[1].data).astype(np.int64))
    axis, shape = node.attrs["axis"], x.type.extents
    if axis is None:
        axis, shape = 0, (x.type.elements,)
    gather_along(lo, group, x, shape, axis % len(shape), index)


@lowers("ReverseSequence", supported=moved_dtypes)
def lower_reverse_sequence(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, lengths, out = lo.read(node.inputs[0]), positions(lo, group, node.inputs[1]), lo.write(node.output)
    t = x.type
    if t.elements == lengths.type.elements == 0:
        return
    batch, time = node.attrs["batch_axis"], node.attrs["time_axis"]
    strides = dense_strides(t)
    steps, block = t.extents[time], math.prod(t.extents[2:]) * t.dtype.itemsize
    check = out_of_range(node, lengths.type.extents, [steps + 1], [time], "sequence length", negative=False)
    along = (t.extents[batch], strides[batch]), (steps, strides[time])
    lo.reverse(x.ref, out.ref, lengths, *along, block, check, lo.info(group, "reverse_sequence"))

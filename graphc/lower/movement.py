"""Operators that only move elements: views where memory allows, strided copies elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers, moved_dtypes
from graphc.lower.storage import Ref, Storage, channels_last_order, channels_last_strides, dense_strides
from graphc.ops.movement import slice_axes, slice_bounds
from graphc.report import StepInfo
from graphc.types import TensorType


def emit_copy(lo: Lowering, x: Storage, y: Ref, name: str) -> None:
    """Copy a dense value to contiguous memory."""
    t = TensorType(x.type.dtype, x.type.extents)
    info = StepInfo(
        0, (), ("Copy",), "copy_strided", "", "into the caller's array or a host step's", name, 0, 2 * t.nbytes
    )
    lo.copy(x.ref, x.strides, y, dense_strides(t), t.extents, t.dtype.itemsize, info)


@lowers(
    "Reshape",
    "Identity",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "BitCast",
    supported=moved_dtypes,
    view=True,
    aliases=True,
    channels_last=lambda node: "packed" if node.op.name == "BitCast" else "",
)
def lower_view(lo: Lowering, group: Group) -> None:
    """The same bytes in the same order: no step at all, unless the result has a place of its own."""
    node = group.nodes[0]
    x, out = lo.strided(node.inputs[0]), node.output
    placed = lo.storage.get(out)
    if placed is None and node.op.name == "BitCast" and x.packed:
        lo.place(out, x.ref, x.strides, x.channels_last)
        return
    if placed is None and x.contiguous:
        lo.place(out, x.ref)
        return
    if placed is not None and placed.ref == x.ref and placed.contiguous and x.contiguous:
        return
    y = lo.write(out)
    lo.copy(
        x.ref,
        x.strides,
        y.ref,
        y.strides if node.op.name == "BitCast" else dense_strides(x.type),
        x.type.extents,
        x.type.dtype.itemsize,
        lo.info(group, "copy_strided"),
    )


def _perm(node: Node) -> tuple[int, ...]:
    return node.attrs["perm"] or tuple(range(node.output.type.rank))[::-1]


def _moves_channels(node: Node) -> str:
    """To the end of an image that has them there in memory, or back."""
    rank = node.output.type.rank
    if rank < 3:  # no image
        return ""
    perm, last = _perm(node), channels_last_order(rank)
    return "read" if perm == last else "write" if [perm[i] for i in last] == sorted(perm) else ""


@lowers("Transpose", supported=moved_dtypes, channels_last=_moves_channels)
def lower_transpose(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, v, perm = lo.strided(node.inputs[0]), node.output, _perm(node)
    if v not in lo.storage and x.channels_last and x.packed and perm == x.order:
        lo.place(v, x.ref)
        return
    if v not in lo.storage and v in lo.channels_last and x.contiguous:
        lo.place(v, x.ref, channels_last_strides(v.type), True)
        return
    out = lo.write(v)
    xs = [x.strides[p] for p in perm]
    lo.copy(x.ref, xs, out.ref, out.strides, node.output.shape, x.type.dtype.itemsize, lo.info(group, "copy_strided"))


@lowers("Concat", supported=moved_dtypes, channels_last=lambda node: "any")
def lower_concat(lo: Lowering, group: Group) -> None:
    """Parts that were written in place cost nothing; the others are copied."""
    node = group.nodes[0]
    out = lo.storage.get(node.output) or lo.write(node.output)
    t = node.output.type
    axis = node.attrs["axis"] % t.rank
    at = 0
    info = lo.info(group, "copy_strided")
    for v in node.operands:
        x = lo.strided(v)
        first = at // t.blocks.c * out.strides[1] if t.layout else at * out.strides[axis]
        part = Storage(out.ref + first, replace(t, shape=v.shape), out.strides, out.channels_last)
        at += v.shape[axis]
        if x.ref != part.ref:
            copy = emit_blocked_copy if t.layout else emit_elements
            copy(lo, x, part, replace(info, reason=f"%{v.name} has another place"))


def emit_elements(lo: Lowering, x: Storage, y: Storage, info: StepInfo) -> None:
    """Copy a dense value."""
    xs, ys, shape = ([of[i] for i in y.order] for of in (x.strides, y.strides, y.type.extents))
    lo.copy(x.ref, xs, y.ref, ys, shape, y.type.dtype.itemsize, info)


def emit_blocked_copy(lo: Lowering, x: Storage, y: Storage, info: StepInfo) -> None:
    """Copy a blocked value, and clear the halo of the copy."""
    n, channels, *outer, width = y.type.extents
    layout, item = y.type.blocks, y.type.dtype.itemsize
    assert x.type.layout is not None and x.type.blocks.c == layout.c, (x.type, y.type)
    source, target, row = x.ref, y.ref, width * layout.c * item
    if x.type.layout == layout:  # rows are alike: with their halo they follow each other without a gap
        (source, row), (target, _) = x.whole_rows, y.whole_rows
    else:
        lo.clear_halo(y)
    shape = [n, -(-channels // layout.c), *outer, row // item]
    lo.copy(source, [*x.strides[:-1], item], target, [*y.strides[:-1], item], shape, item, info)


# --- parts of a tensor ------------------------------------------------------------------------------------------------
def emit_part(lo: Lowering, group: Group, v: Value, x: Ref, strides: Sequence[int]) -> None:
    """The value `v` is elements of x, `strides` bytes apart: a view where they are neighbours, else a copy."""
    t = v.type
    dense = dense_strides(t)
    if v not in lo.storage and all(d == 1 or a == b for d, a, b in zip(t.extents, strides, dense)):
        lo.place(v, x)
        return
    out = lo.write(v)
    lo.copy(x, strides, out.ref, out.strides, t.extents, t.dtype.itemsize, lo.info(group, "copy_strided"))


@lowers("Slice", supported=moved_dtypes, aliases=True)
def lower_slice(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.strided(node.inputs[0])
    at, strides = x.ref, list(x.strides)
    for axis, *bounds in slice_axes(node.call):
        taken = slice_bounds(x.type.extents[axis], *bounds)
        at += taken.start * strides[axis]  # where none is taken, nothing is read
        strides[axis] *= taken.step
    emit_part(lo, group, node.output, at, strides)


@lowers("Split", supported=moved_dtypes, aliases=True, channels_last=lambda node: "any")
def lower_split(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.strided(node.inputs[0])
    axis, at = node.attrs["axis"] % x.type.rank, 0
    for v in node.outputs:
        first = x.ref + at * x.strides[axis]
        if x.channels_last and v in lo.channels_last and v not in lo.storage:
            lo.place(v, first, x.strides, True)
        else:
            emit_part(lo, group, v, first, x.strides)
        at += v.shape[axis]


# --- repetition -------------------------------------------------------------------------------------------------------
@lowers("Expand", supported=moved_dtypes)
def lower_expand(lo: Lowering, group: Group) -> None:
    """Strides of 0 along what is repeated."""
    node = group.nodes[0]
    x = lo.strided(node.inputs[0])
    own = [0 if d == 1 else s for d, s in zip(x.type.extents, x.strides)]
    strides = [0] * (node.output.type.rank - x.type.rank) + own
    emit_part(lo, group, node.output, x.ref, strides)


@lowers("Tile", supported=moved_dtypes)
def lower_tile(lo: Lowering, group: Group) -> None:
    """Each axis as [repeats, size]."""
    node = group.nodes[0]
    x, out = lo.strided(node.inputs[0]), lo.write(node.output)
    shape, xs, ys = [], [], []
    for d, repeats, a, b in zip(x.type.extents, node.call.ints(1), x.strides, out.strides):
        shape += [repeats, d]
        xs += [0, a]
        ys += [d * b, b]
    lo.copy(x.ref, xs, out.ref, ys, shape, x.type.dtype.itemsize, lo.info(group, "copy_strided"))


# --- images and blocks ------------------------------------------------------------------------------------------------
@lowers("DepthToSpace", "SpaceToDepth", supported=moved_dtypes, channels_last=lambda node: "any")
def lower_blocks(lo: Lowering, group: Group) -> None:
    """A transposition of the dims [n, channels and block, rows, columns of blocks]."""
    node = group.nodes[0]
    x, out = lo.strided(node.inputs[0]), lo.write(node.output)
    b, columns_first = node.attrs["blocksize"], node.attrs["mode"] == "CRD"
    to_space = node.op.name == "DepthToSpace"
    deep, flat = (x, out) if to_space else (out, x)  # deep: [n, k*b*b, h, w], flat: [n, k, h*b, w*b]
    (n, k, _, _), (_, _, h, w) = flat.type.extents, deep.type.extents
    (sn, sc, sh, sw), (fn, fc, fh, fw) = deep.strides, flat.strides
    shape = [n, k, h, b, w, b]
    of_k, of_block = (b * b * sc, sc) if columns_first else (sc, k * sc)
    deep_strides = [sn, of_k, sh, b * of_block, sw, of_block]
    flat_strides = [fn, fc, b * fh, fh, b * fw, fw]
    xs, ys = (deep_strides, flat_strides) if to_space else (flat_strides, deep_strides)
    lo.copy(x.ref, xs, out.ref, ys, shape, x.type.dtype.itemsize, lo.info(group, "copy_strided"))

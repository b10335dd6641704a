"""Operators that only move elements: views where memory allows, strided copies elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from backends.cpu.lower.core import Lowering, Storage, dense_strides, lowers, native_dtypes
from backends.cpu.lower.elementwise import collapse
from backends.cpu.program import Ref
from backends.cpu.toolchain import Kernel
from graphc.fuse import Group
from graphc.report import StepInfo
from graphc.types import TensorType

MAX_DIMS = 7


def emit_strided(
    lo: Lowering, x: Ref, xs: Sequence[int], y: Ref, ys: Sequence[int], shape: Sequence[int], item: int, info: StepInfo
) -> None:
    """Copy `shape` elements of `item` bytes from byte strides xs to byte strides ys."""
    if 0 in shape:
        return
    while item > 8:  # complex numbers and the like: as pairs
        shape, xs, ys, item = [*shape, 2], [*xs, item // 2], [*ys, item // 2], item // 2
    dims, (xs, ys) = collapse(list(shape), [list(xs), list(ys)])
    # the loop with the longest contiguous run innermost: prefer a unit stride on the written side
    if len(dims) > MAX_DIMS + 1:
        raise AssertionError(f"a copy of {len(dims)} dims")
    pad = [0] * (MAX_DIMS - len(dims) + 1)
    outer = dims[:-1][::-1] + [1] * len(pad)
    args = [x, y, item, dims[-1], xs[-1], ys[-1], *outer, *xs[:-1][::-1], *pad, *ys[:-1][::-1], *pad]
    lo.emit(Kernel("copy_strided"), args, info)


def emit_copy(lo: Lowering, x: Storage, y: Ref, name: str) -> None:
    """Copy a dense value to contiguous memory."""
    t = TensorType(x.type.dtype, x.type.shape)
    info = StepInfo(0, (), ("Copy",), "copy_strided", "", "into the caller's array or a host step's", name, 0, 2 * t.nbytes)
    emit_strided(lo, x.ref, x.strides, y, dense_strides(t), t.shape, t.dtype.itemsize, info)


@lowers("Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze", supported=native_dtypes)
def lower_view(lo: Lowering, group: Group) -> None:
    """The same elements in the same order: no step at all, unless the result has a place of its own."""
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), node.output
    if out not in lo.storage and x.contiguous:
        lo.place(out, x.ref)
        return
    y = lo.write(out)
    emit_strided(lo, x.ref, x.strides, y.ref, dense_strides(x.type), x.type.shape, x.type.dtype.itemsize, lo.info(group, "copy_strided"))


@lowers("Transpose", supported=native_dtypes)
def lower_transpose(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    perm = node.attrs["perm"] or tuple(range(x.type.rank))[::-1]
    xs = [x.strides[p] for p in perm]
    emit_strided(lo, x.ref, xs, out.ref, out.strides, node.output.shape, x.type.dtype.itemsize, lo.info(group, "copy_strided"))


@lowers("Concat", supported=native_dtypes)
def lower_concat(lo: Lowering, group: Group) -> None:
    """Parts that were written in place cost nothing; the others are copied."""
    node = group.nodes[0]
    out = lo.storage.get(node.output) or lo.write(node.output)
    t = node.output.type
    axis = node.attrs["axis"] % t.rank
    at = 0
    for v in node.operands:
        x = lo.storage.get(v) or lo.read(v)
        blocked = t.layout is not None
        to = out.ref + (at // t.layout.c * out.strides[1] if blocked else at * out.strides[axis])
        at += v.shape[axis]
        if x.ref.buffer is to.buffer and x.ref.offset == to.offset:
            continue
        info = lo.info(group, "copy_strided", "", f"%{v.name} has another place")
        if blocked:  # whole rows with their halo
            c = t.layout.c
            row = (v.shape[-1] + t.layout.left + t.layout.right) * c
            shape = [v.shape[0], v.shape[1] // c, *v.shape[2:-1], row]
            emit_strided(lo, x.ref, [*x.strides[:-1], 4], to, [*out.strides[:-1], 4], shape, 4, info)
        else:
            emit_strided(lo, x.ref, x.strides, to, out.strides, v.shape, t.dtype.itemsize, info)

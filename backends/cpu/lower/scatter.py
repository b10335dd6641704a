"""Operators that write at positions which come from data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc import expr as e
from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.index import limits, lookup_args, out_of_range, positions
from graphc.backends.cpu.lower.pad import emit_tables, padded_positions, zero
from graphc.backends.cpu.lower.registry import lowers, native_dtypes
from graphc.backends.cpu.storage import Buffer, Ref, Storage, dense_strides
from graphc.expr import Expr
from graphc.fuse import Group
from graphc.graph import make_node


def _write(dtype: np.dtype, reduction: str) -> Kernel:
    """What an update (operand 1) does with an element (operand 0)."""
    old, new = e.arg(0, dtype), e.arg(1, dtype)
    written = new if reduction == "none" else Expr(reduction, (old, new), dtype)
    return Kernel("map_row", (written, "vv", (dtype.name, dtype.name)))


def emit_scatter(
    lo: Lowering,
    group: Group,
    x: Ref | None,
    out: Ref,
    total: int,
    updates: Storage,
    lookup: list[int | Ref],
    block: int,
    reduction: str,
    check: Callable[[int, int], Exception],
) -> None:
    """total, block: elements of the result and of one update. x: what lies under the updates, None for zeros."""
    dtype = updates.type.dtype
    table = lo.scratch(group.output.name, 8 * 3)  # result and operands of the micro-kernel
    args = [*lookup, x or 0, out, updates.ref, total, max(block, 1), dtype.itemsize, _write(dtype, reduction), *table]
    lo.emit(Kernel("scatter"), args, lo.info(group, "scatter"), check=check)


@lowers("ScatterElements", "Scatter", supported=limits)
def lower_scatter_elements(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, index = lo.read(node.inputs[0]), positions(lo, group, node.inputs[1])
    updates, out = lo.read(node.inputs[2]), lo.write(node.output)
    t, axis = x.type, node.attrs["axis"] % x.type.rank
    if t.size == index.type.size == 0:  # positions in a tensor of nothing are errors
        return
    own = [0 if i == axis else s for i, s in enumerate(dense_strides(t))]
    axes = [(t.shape[axis], dense_strides(t)[axis])]
    lookup = lookup_args(index, index.type.shape, index.strides, own, axes)
    check = out_of_range(node, index.type.shape, [t.shape[axis]], [axis])
    reduction = node.attrs.get("reduction", "none")
    emit_scatter(lo, group, x.ref, out.ref, t.size, updates, lookup, 1, reduction, check)


@lowers("ScatterND", supported=limits)
def lower_scatter_nd(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, index = lo.read(node.inputs[0]), positions(lo, group, node.inputs[1])
    updates, out = lo.read(node.inputs[2]), lo.write(node.output)
    t, k = x.type, index.type.shape[-1]
    if t.size == index.type.size == 0:
        return
    axes = list(zip(t.shape, dense_strides(t)))[:k]
    lookup = lookup_args(index, index.type.shape[:-1], index.strides[:-1], [0] * (index.type.rank - 1), axes)
    check = out_of_range(node, index.type.shape, t.shape[:k], range(k))
    block = math.prod(t.shape[k:])
    emit_scatter(lo, group, x.ref, out.ref, t.size, updates, lookup, block, node.attrs["reduction"], check)


@lowers("MaxUnpool", supported=native_dtypes)
def lower_max_unpool(lo: Lowering, group: Group) -> None:
    """Zeros, with each element at its flat position; a larger output_shape adds zeros at the ends of the axes."""
    node = group.nodes[0]
    x, index, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    t = node.output.type
    if t.size == 0:
        return
    inner = make_node(node.op, node.inputs[:2], node.attrs).output.type
    to = out.ref if inner.shape == t.shape else Ref(Buffer(f"{node.output.name}/inner", inner.nbytes))
    count, item = x.type.size, t.dtype.itemsize
    lookup = lookup_args(index, [count], [8], [0], [(inner.size, item)], negative=False)
    check = out_of_range(node, index.type.shape, [inner.size], ["the flat result"], negative=False)
    emit_scatter(lo, group, None, to, inner.size, x, lookup, 1, "none", check)
    if inner.shape != t.shape:
        source = Storage(to, inner, dense_strides(inner))
        axes = [padded_positions(a, 0, b - a, "constant") for a, b in zip(inner.shape, t.shape)]
        emit_tables(lo, source, out.ref, axes, zero(lo, t.dtype), lo.info(group, "copy_tables"))

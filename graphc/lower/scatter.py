"""Operators that write at positions which come from data."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from graphc import expr as e
from graphc.graph import make_node
from graphc.lower.constants import constant, zero
from graphc.lower.elementwise import emit_map
from graphc.lower.fuse import Group
from graphc.lower.index import element_limits, limits, out_of_range, own_strides, positions
from graphc.lower.lowering import Lowering
from graphc.lower.pad import emit_tables
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.sources import counted
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.lower.verbs import Lookup
from graphc.ops._positions import padded
from graphc.types import TensorType


@lowers("ScatterElements", "Scatter", supported=element_limits)
def lower_scatter_elements(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, index = lo.read(node.inputs[0]), positions(lo, group, node.inputs[1])
    updates, out = lo.read(node.inputs[2]), lo.write(node.output)
    t, axis = x.type, node.attrs["axis"] % x.type.rank
    if t.elements == index.type.elements == 0:  # positions in a tensor of nothing are errors
        return
    axes = [(t.extents[axis], dense_strides(t)[axis])]
    lookup = Lookup(index, index.type.extents, index.strides, own_strides(node), axes)
    check = out_of_range(node, index.type.extents, [t.extents[axis]], [axis])
    reduction = node.attrs.get("reduction", "none")
    lo.scatter(
        lookup, x.ref, out.ref, t.elements, updates, 1, reduction, check, node.output.name, lo.info(group, "scatter")
    )


@lowers("ScatterND", supported=limits)
def lower_scatter_nd(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, index = lo.read(node.inputs[0]), positions(lo, group, node.inputs[1])
    updates, out = lo.read(node.inputs[2]), lo.write(node.output)
    t, k = x.type, index.type.extents[-1]
    if t.elements == index.type.elements == 0:
        return
    axes = list(zip(t.extents, dense_strides(t)))[:k]
    lookup = Lookup(index, index.type.extents[:-1], index.strides[:-1], [0] * (index.type.rank - 1), axes)
    check = out_of_range(node, index.type.extents, t.extents[:k], range(k))
    block = math.prod(t.extents[k:])
    reduction, info = node.attrs["reduction"], lo.info(group, "scatter")
    lo.scatter(lookup, x.ref, out.ref, t.elements, updates, block, reduction, check, node.output.name, info)


@lowers("TensorScatter", supported=native_dtypes)
def lower_tensor_scatter(lo: Lowering, group: Group) -> None:
    """A run of steps for each batch entry where they can't wrap, else step by step."""
    node = group.nodes[0]
    cache, update, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    t, axis = cache.type, node.attrs["axis"] % cache.type.rank
    batch, outer, size = t.extents[0], math.prod(t.extents[1:axis]), t.extents[axis]
    inner = math.prod(t.extents[axis + 1 :])
    steps, step = update.type.extents[axis], inner * t.dtype.itemsize
    if t.elements == 0:
        return
    if update.type.elements == 0:
        lo.copy(
            cache.ref, cache.strides, out.ref, out.strides, t.extents, t.dtype.itemsize, lo.info(group, "copy_strided")
        )
        return
    given = node.call.has(2)
    start = positions(lo, group, node.inputs[2]) if given else constant(lo, np.zeros(1, np.int64))
    item = start.type.dtype.itemsize if given else 0
    entry, matrix = outer * size * step, size * step
    if node.attrs["mode"] == "linear":
        lookup = Lookup(start, [batch, outer], [item, 0], [entry, matrix], [(size - steps + 1, step)], negative=False)
        shape, block = [batch], steps * inner
    else:
        wrapped = _wrapped(lo, group, start, item, (batch, steps, size))
        strides = [entry, matrix, 0]
        lookup = Lookup(wrapped, [batch, outer, steps], [8 * steps, 0, 8], strides, [(size, step)], negative=False)
        shape, block = [batch, steps], inner
    check = out_of_range(node, shape, [lookup.axes[0][0]], [axis], "write index", negative=False)
    info = lo.info(group, "scatter")
    lo.scatter(lookup, cache.ref, out.ref, t.elements, update, block, "none", check, node.output.name, info)


def _wrapped(lo: Lowering, group: Group, start: Storage, item: int, sizes: tuple[int, int, int]) -> Storage:
    """(start + step) mod size of [batch, steps], int64."""
    batch, steps, size = sizes
    count, modulus, t = counted(lo, 0, steps), counted(lo, size, 1), TensorType(np.int64, (batch, steps))
    to = Storage(Ref(Buffer(f"{group.output.name}/positions", t.nbytes)), t, dense_strides(t))
    if t.elements:
        first, step, n = e.cast(e.arg(0, start.type.dtype), np.int64), e.arg(1, np.int64), e.arg(2, np.int64)
        wrapped = e.fmod(e.fmod(first + step, n) + n, n)
        plain = replace(group, anchor=None, expression=wrapped, operands=())
        emit_map(lo, plain, [batch, steps], [[8 * steps, 8], [item, 0], [0, 8], [0, 0]], [to, start, count, modulus])
    return to


@lowers("MaxUnpool", supported=native_dtypes)
def lower_max_unpool(lo: Lowering, group: Group) -> None:
    """Zeros, with each element at its flat position; a larger output_shape adds zeros at the ends of the axes."""
    node = group.nodes[0]
    x, index, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    t = node.output.type
    if t.elements == 0:
        return
    inner = make_node(node.op, node.inputs[:2], node.attrs).output.type
    to = out.ref if inner.shape == t.extents else Ref(Buffer(f"{node.output.name}/inner", inner.nbytes))
    count, item = x.type.elements, t.dtype.itemsize
    lookup = Lookup(index, [count], [8], [0], [(inner.elements, item)], negative=False)
    check = out_of_range(node, index.type.extents, [inner.elements], ["the flat result"], negative=False)
    lo.scatter(lookup, None, to, inner.elements, x, 1, "none", check, node.output.name, lo.info(group, "scatter"))
    if inner.shape != t.extents:
        source = Storage(to, inner, dense_strides(inner))
        axes = [padded(a, 0, b - a, "constant") for a, b in zip(inner.shape, t.extents)]
        emit_tables(lo, source, out, axes, zero(lo, t.dtype), lo.info(group, "copy_tables"))

"""Operators that write at positions which come from data."""

from __future__ import annotations

import math

from graphc.graph import make_node
from graphc.lower.constants import zero
from graphc.lower.fuse import Group
from graphc.lower.index import limits, out_of_range, positions
from graphc.lower.lowering import Lowering
from graphc.lower.pad import emit_tables
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.lower.verbs import Lookup
from graphc.ops._positions import padded


@lowers("ScatterElements", "Scatter", supported=limits)
def lower_scatter_elements(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, index = lo.read(node.inputs[0]), positions(lo, group, node.inputs[1])
    updates, out = lo.read(node.inputs[2]), lo.write(node.output)
    t, axis = x.type, node.attrs["axis"] % x.type.rank
    if t.elements == index.type.elements == 0:  # positions in a tensor of nothing are errors
        return
    own = [0 if i == axis else s for i, s in enumerate(dense_strides(t))]
    axes = [(t.extents[axis], dense_strides(t)[axis])]
    lookup = Lookup(index, index.type.extents, index.strides, own, axes)
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

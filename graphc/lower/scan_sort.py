"""Operators along an ordered axis: ArgMax, ArgMin, CumSum, CumProd, TopK."""

from __future__ import annotations

from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.storage import Buffer, Ref
from graphc.lower.verbs import around


@lowers("ArgMax", "ArgMin", supported=native_dtypes)
def lower_extreme(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    if node.output.type.elements == 0:
        return
    t = x.type
    shape, largest = around(t.extents, node.attrs["axis"] % t.rank), node.op.name == "ArgMax"
    lo.extreme(largest, node.attrs["select_last_index"], t.dtype, x.ref, shape, out.ref, lo.info(group, "passes"))


@lowers("CumSum", "CumProd", supported=native_dtypes)
def lower_scan(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    t = x.type
    if t.elements == 0:
        return
    shape, combine = around(t.extents, node.call.ints(1)[0] % t.rank), "add" if node.op.name == "CumSum" else "mul"
    exclusive, reverse = node.attrs["exclusive"], bool(node.attrs["reverse"])
    lo.scan(combine, exclusive, reverse, t.dtype, x.ref, shape, out.ref, lo.info(group, "passes"))


@lowers("TopK", supported=native_dtypes)
def lower_top_k(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.read(node.inputs[0])
    values = lo.write(node.output)
    if len(node.outputs) > 1:
        indices = lo.write(node.outputs[1]).ref
    else:
        indices = Ref(Buffer(f"{node.output.name}/indices", 8 * node.output.type.elements))
    if node.output.type.elements == 0:
        return
    t = x.type
    axis = node.attrs["axis"] % t.rank
    shape, k = around(t.extents, axis), node.output.shape[axis]
    info = lo.info(group, "top_k", "", f"{k} of {t.extents[axis]}, by a heap")
    lo.top_k(node.attrs["largest"], t.dtype, x.ref, shape, k, values.ref, indices, node.output.name, info)

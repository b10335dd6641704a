"""Operators along an ordered axis: ArgMax, ArgMin, CumSum, CumProd, TopK."""

from __future__ import annotations

from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.reduce import LANES_CHUNK, Record, around, emit_passes
from graphc.backends.cpu.lower.registry import lowers, native_dtypes
from graphc.backends.cpu.storage import Buffer, Ref
from graphc.fuse import Group


@lowers("ArgMax", "ArgMin", supported=native_dtypes)
def lower_extreme(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    if node.output.type.size == 0:
        return
    t = x.type
    outer, size, inner = around(t.shape, node.attrs["axis"] % t.rank)
    params = ("max" if node.op.name == "ArgMax" else "min", node.attrs["select_last_index"], t.dtype.name)
    item = t.dtype.itemsize
    info = lo.info(group, "passes")
    if inner == 1:
        records = [Record(x.ref, [size * item]), Record(out.ref, [8])]
        emit_passes(lo, Kernel("extreme_row", params), [outer], records, 1, size, info)
        return
    width = LANES_CHUNK // 4
    records = [
        Record(x.ref, [size * inner * item], inner * item, 0, width * item),
        Record(out.ref, [inner * 8], 0, 0, width * 8),
    ]
    emit_passes(lo, Kernel("extreme_column", params), [outer], records, size, inner, info, chunk_n=width)


@lowers("CumSum", "CumProd", supported=native_dtypes)
def lower_scan(lo: Lowering, group: Group) -> None:
    """Backwards with negative steps from the end of the axis."""
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    t = x.type
    if t.size == 0:
        return
    outer, size, inner = around(t.shape, node.call.ints(1)[0] % t.rank)
    step, width = inner * t.dtype.itemsize, LANES_CHUNK // 4
    start = (size - 1) * step if node.attrs["reverse"] else 0
    records = [
        Record(ref + start, [size * step], -step if start else step, 0, width * t.dtype.itemsize)
        for ref in (x.ref, out.ref)
    ]
    micro = Kernel("scan", ("add" if node.op.name == "CumSum" else "mul", node.attrs["exclusive"], t.dtype.name))
    emit_passes(lo, micro, [outer], records, size, inner, lo.info(group, "passes"), chunk_n=width)


@lowers("TopK", supported=native_dtypes)
def lower_top_k(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.read(node.inputs[0])
    values = lo.write(node.output)
    if len(node.outputs) > 1:
        indices = lo.write(node.outputs[1]).ref
    else:
        indices = Ref(Buffer(f"{node.output.name}/indices", 8 * node.output.type.size))
    if node.output.type.size == 0:
        return
    t = x.type
    axis = node.attrs["axis"] % t.rank
    outer, size, inner = around(t.shape, axis)
    k = node.output.shape[axis]
    scratch, stride = lo.scratch(node.output.name, 8 * size + 16 * k)
    micro = Kernel("sort_keys", (node.attrs["largest"], t.dtype.name))
    args = [
        x.ref,
        values.ref,
        indices,
        scratch,
        micro,
        t.dtype.itemsize,
        outer,
        size,
        inner,
        k,
        scratch + 8 * size,
        stride,
    ]
    lo.emit(Kernel("top_k"), args, lo.info(group, "top_k", "", f"{k} of {size}, by a heap"))

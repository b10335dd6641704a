"""NonZero, and Compress by a condition that is computed: count, find, and take what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from graphc.backends.cuda.codegen.widths import widest
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.selection.positions_block import COUNT_TRUE, FIND_TRUE, TAKE, CountTrue, FindTrue, Take
from graphc.backends.cuda.selection.ranks_block import chunks
from graphc.lower import index
from graphc.lower.bounded import compressed, results
from graphc.lower.fuse import Group
from graphc.lower.index import out_of_range
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.report import StepInfo


@lowers("NonZero", supported=native_dtypes)
def lower_nonzero(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.read(node.inputs[0])
    found, total = results(lo, node)
    find(lo, x, x.type.extents, found, total, node.output.name, lo.info(group, "find_true"))


def find(lo: CudaLowering, x: Storage, sizes: Sequence[int], found: Ref, total: Ref, name: str, info: StepInfo) -> None:
    """found[rank, total] = coordinates of the elements of x that are not zero, int64; total: how many, int64."""
    dtype, head = x.type.dtype, chunks(prod(sizes), name)
    read = replace(info, nbytes=prod(sizes) * dtype.itemsize)
    count = COUNT_TRUE(**head, x=x.ref)
    lo.emit(CountTrue(dtype.name), count, replace(read, kernel="count_true"), writes=[head["counts"]])
    records = [{"size": d} for d in sizes]
    args = FIND_TRUE(**head, total=total, x=x.ref, found=found, rank=len(sizes), records=records)
    lo.emit(FindTrue(dtype.name), args, read, writes=[found, total])


@lowers("Compress", supported=compressed)
def lower_compress(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    if node.inputs[1].is_const:
        index.lower_compress(lo, group)
        return
    x, condition = lo.read(node.inputs[0]), lo.read(node.inputs[1])
    y, total = results(lo, node)
    name, n = node.output.name, condition.type.elements
    positions = Ref(Buffer(f"{name}/positions", 8 * n))
    find(lo, condition, [n], positions, total, name, lo.info(group, "find_true"))
    shape, axis = x.type.extents, node.attrs["axis"]
    if axis is None:
        shape, axis = (x.type.elements,), 0
    axis %= len(shape)
    block, outer = prod(shape[axis + 1 :]) * x.type.dtype.itemsize, prod(shape[:axis])
    item, moved = widest([x.ref, y], block), outer * block
    threads = max(block // item, 1)
    count = max(outer, 1) * n * threads
    args = TAKE(
        grid=-(-count // THREADS), total=count, indices=positions, wide=1, x=x.ref, y=y, count=total, most=n,
        size=shape[axis], threads=threads, block=moved,
    )  # fmt: skip
    check = out_of_range(node, [n], [shape[axis]], [axis], "condition", negative=False)
    lo.emit(Take(item), args, lo.info(group, "take"), check=check, writes=[y])

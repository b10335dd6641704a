"""NonZero, and Compress by a condition that is computed: count, find, and take what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.selection.positions_block import (
    CHUNK,
    COUNT_CHUNKS,
    FIND_CHUNKS,
    TAKE,
    CountChunks,
    CountTrue,
    FindChunks,
    FindTrue,
    Take,
)
from graphc.lower import index
from graphc.lower.bounded import compressed, results
from graphc.lower.index import out_of_range
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Buffer, Ref, Storage

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.lower.fuse import Group
    from graphc.report import StepInfo


@RULES.lowers("NonZero", supported=native_dtypes)
def lower_nonzero(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x = lo.read(node.inputs[0])
    found, total = results(lo, node)
    find(lo, x, x.type.extents, found, total, node.output.name, lo.info(group, "find_chunks"))


def find(lo: CpuLowering, x: Storage, sizes: Sequence[int], found: Ref, total: Ref, name: str, info: StepInfo) -> None:
    """found[rank, total] = coordinates of the elements of x that are not zero, int64; total: how many, int64."""
    n, item, dtype = prod(sizes), x.type.dtype.itemsize, x.type.dtype.name
    counts = Ref(Buffer(f"{name}/counts", -(-n // CHUNK) * 8))
    read = replace(info, nbytes=n * item)
    count = COUNT_CHUNKS(x=x.ref, n=n, item=item, counts=counts, micro=CountTrue(dtype))
    lo.emit(CountChunks(), count, replace(read, kernel="count_chunks"), writes=[counts])
    args = FIND_CHUNKS(
        x=x.ref, n=n, item=item, counts=counts, micro=FindTrue(dtype), found=found, total=total, rank=len(sizes),
        records=[{"size": d} for d in sizes],
    )  # fmt: skip
    lo.emit(FindChunks(), args, read, writes=[found, total])


@RULES.lowers("Compress", supported=compressed)
def lower_compress(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    if node.inputs[1].is_const:
        index.lower_compress(lo, group)
        return
    x, condition = lo.read(node.inputs[0]), lo.read(node.inputs[1])
    y, total = results(lo, node)
    name, n = node.output.name, condition.type.elements
    positions = Ref(Buffer(f"{name}/positions", 8 * n))
    find(lo, condition, [n], positions, total, name, lo.info(group, "find_chunks"))
    shape, axis = x.type.extents, node.attrs["axis"]
    if axis is None:
        shape, axis = (x.type.elements,), 0
    axis %= len(shape)
    args = TAKE(
        x=x.ref, y=y, positions=positions, count=total, outer=prod(shape[:axis]), size=shape[axis],
        block=prod(shape[axis + 1 :]) * x.type.dtype.itemsize,
    )  # fmt: skip
    check = out_of_range(node, [n], [shape[axis]], [axis], "condition", negative=False)
    lo.emit(Take(), args, lo.info(group, "take"), check=check, writes=[y])

"""Steps that read or write at positions which come from data.

Updates are in order, whatever the order of threads: a scatter is a few steps with tables between them. The first finds the block
of y that each update goes to; the second notes for each block its last update, or a list of all; then the block is written by the
threads of one update. The tables are a word for each block of y (only those that updates name are touched), and one or two for
each update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphc.backends.cuda.codegen.widths import WIDEST, widest
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.verbs.index_block import (
    GATHER,
    REVERSE,
    SCATTER_COMBINE,
    SCATTER_LAST,
    SCATTER_MARK,
    SCATTER_PLACES,
    Gather,
    Reverse,
    ScatterCombine,
    ScatterLast,
    ScatterMark,
    ScatterPlaces,
)
from graphc.lower.checks import Check
from graphc.lower.limits import INDEX_AXES, INDEX_DIMS
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.lower.strides import collapse
from graphc.lower.verbs import Lookup
from graphc.report import StepInfo
from graphc.sizes import largest

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering


def _threads(total: int) -> dict[str, int]:
    return {"grid": -(-total // THREADS), "total": total}


def _padded(words: Sequence[int], count: int, filler: int = 0) -> list[int]:
    return [*words, *[filler] * (count - len(words))]


def _lookup(k: Lookup) -> dict[str, Any]:
    """The fields of an argument block that kernels which look up places share."""
    dims, (index_strides, data_strides) = collapse(list(k.dims), [list(k.index_strides), list(k.data_strides)])
    if len(dims) > INDEX_DIMS or len(k.axes) > INDEX_AXES:
        raise AssertionError(f"positions over {len(dims)} loops, {len(k.axes)} axes")
    return {
        "indices": k.index.ref,
        "wide": _is_wide(k.index),
        "negative": int(k.negative),
        "loops": len(dims),
        "dims": _padded(dims[::-1], INDEX_DIMS, 1),
        "index_strides": _padded(index_strides[::-1], INDEX_DIMS),
        "data_strides": _padded(data_strides[::-1], INDEX_DIMS),
        "axis_count": len(k.axes),
        "axes": _padded([word for axis in k.axes for word in axis], 2 * INDEX_AXES),
    }


def _is_wide(positions: Storage) -> int:
    return int(positions.type.dtype.itemsize == 8)


def gather(lo: CudaLowering, lookup: Lookup, x: Ref, y: Ref, block: int, check: Check, info: StepInfo) -> None:
    item = widest([x, y], block, *lookup.data_strides, *(stride for _, stride in lookup.axes))
    threads = largest(block // item, 1)
    args = GATHER(**_threads(lookup.count * threads), **_lookup(lookup), x=x, y=y, threads=threads, block=block)
    lo.emit(Gather(item), args, info, check=check, writes=[y])


def scatter(
    lo: CudaLowering,
    lookup: Lookup,
    x: Ref | None,
    y: Ref,
    total: int,
    updates: Storage,
    block: int,
    reduction: str,
    check: Check,
    name: str,
    info: StepInfo,
) -> None:
    dtype = updates.type.dtype
    unit = min((stride for _, stride in lookup.axes), default=block * dtype.itemsize)
    if total and unit < block * dtype.itemsize:  # blocks that begin inside of others are cut: slots number whole ones
        lookup = replace(
            lookup,
            dims=[*lookup.dims, block * dtype.itemsize // unit],
            index_strides=[*lookup.index_strides, 0],
            data_strides=[*lookup.data_strides, unit],
        )
        block = unit // dtype.itemsize
    places = lookup.count
    if total:
        _fill(lo, x, y, total * dtype.itemsize, replace(info, kernel="copy_strided", flops=0))
    if not places:
        return
    slots, heads, following = (
        Ref(Buffer(f"{name}/{what}", 8 * count))
        for what, count in (("slots", places), ("heads", total // largest(block, 1)), ("next", places))
    )
    head = {**_threads(places), "slots": slots, "heads": heads}
    nbytes, changes, linked = block * dtype.itemsize, total * block > 0, reduction != "none"
    args = SCATTER_PLACES(
        **_lookup(lookup), **(head if changes else {**head, "slots": 0, "heads": 0}), block=largest(nbytes, 1)
    )
    step = replace(info, kernel="scatter_places", flops=0)
    lo.emit(ScatterPlaces(), args, step, 16 * places, check, writes=[slots, heads] if changes else [])
    if not changes:
        return
    args, writes = SCATTER_MARK(**head, next=following if linked else 0), [heads, following] if linked else [heads]
    lo.emit(ScatterMark(linked), args, replace(step, kernel="scatter_mark"), 16 * places, writes=writes)
    if linked:
        head.update(_threads(places * block))
        args = SCATTER_COMBINE(**head, places=places, next=following, y=y, updates=updates.ref, block=block)
        lo.emit(ScatterCombine(dtype.name, reduction), args, info, writes=[y])
        return
    item = widest([y, updates.ref], nbytes)
    threads = nbytes // item
    head.update(_threads(places * threads))
    args = SCATTER_LAST(**head, y=y, updates=updates.ref, threads=threads)
    lo.emit(ScatterLast(item), args, info, writes=[y])


def _fill(lo: CudaLowering, x: Ref | None, y: Ref, nbytes: int, info: StepInfo) -> None:
    """y = x, or zeros."""
    if x is not None:
        if x != y:
            lo.copy(x, [1], y, [1], [nbytes], 1, info)
        return
    item = widest([y], nbytes)
    lo.copy(Ref(lo.weights.zeros(WIDEST)), [0], y, [item], [nbytes // item], item, info)


def reverse(
    lo: CudaLowering,
    x: Ref,
    y: Ref,
    lengths: Storage,
    batch: tuple[int, int],
    time: tuple[int, int],
    block: int,
    check: Check,
    info: StepInfo,
) -> None:
    item = widest([x, y], block, batch[1], time[1])
    threads, rows, moved = largest(block // item, 1), largest(time[0], 1), block if time[0] else 0
    args = REVERSE(
        **_threads(batch[0] * rows * threads), indices=lengths.ref, wide=_is_wide(lengths), x=x, y=y, threads=threads,
        rows=rows, steps=time[0], block=moved, batch_stride=batch[1], time_stride=time[1],
    )  # fmt: skip
    lo.emit(Reverse(item), args, info, check=check, writes=[y])

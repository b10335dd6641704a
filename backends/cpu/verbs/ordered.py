"""Steps along an ordered axis: extremes, running sums and products, the k largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.verbs.ordered_block import TOP_K, ExtremeColumn, ExtremeRow, Scan, SortKeys, TopK
from graphc.backends.cpu.verbs.passes import LANES_CHUNK, Record, emit_passes
from graphc.lower.storage import Ref
from graphc.lower.verbs import Around
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering

WIDTH = LANES_CHUNK // 4  # columns of one call


def extreme(
    lo: CpuLowering, largest: bool, last: bool, dtype: np.dtype, x: Ref, shape: Around, y: Ref, info: StepInfo
) -> None:
    outer, size, inner = shape
    prim, item = "max" if largest else "min", dtype.itemsize
    if inner == 1:
        records = [Record(x, [size * item]), Record(y, [8])]
        emit_passes(
            lo, ExtremeRow(prim=prim, last=last, dtype_name=dtype.name), [outer], records, 1, size, info, writes=[y]
        )
        return
    records = [
        Record(x, [size * inner * item], inner * item, 0, WIDTH * item),
        Record(y, [inner * 8], 0, 0, WIDTH * 8),
    ]
    emit_passes(
        lo,
        ExtremeColumn(prim=prim, last=last, dtype_name=dtype.name),
        [outer],
        records,
        size,
        inner,
        info,
        chunk_n=WIDTH,
        writes=[y],
    )


def scan(
    lo: CpuLowering,
    combine: str,
    exclusive: bool,
    reverse: bool,
    dtype: np.dtype,
    x: Ref,
    shape: Around,
    y: Ref,
    info: StepInfo,
) -> None:
    """Backwards with negative steps from the end of the axis."""
    outer, size, inner = shape
    step = inner * dtype.itemsize
    start = (size - 1) * step if reverse else 0
    records = [
        Record(ref + start, [size * step], -step if start else step, 0, WIDTH * dtype.itemsize) for ref in (x, y)
    ]
    micro = Scan(combine=combine, exclusive=exclusive, dtype_name=dtype.name)
    emit_passes(lo, micro, [outer], records, size, inner, info, chunk_n=WIDTH, writes=[y + start])


def top_k(
    lo: CpuLowering,
    largest: bool,
    dtype: np.dtype,
    x: Ref,
    shape: Around,
    k: int,
    y: Ref,
    places: Ref,
    name: str,
    info: StepInfo,
) -> None:
    outer, size, inner = shape
    scratch, stride = lo.scratch(name, 8 * size + 16 * k)
    micro = SortKeys(largest, dtype.name)
    args = TOP_K(
        x=x, values=y, indices=places, keys=scratch, micro=micro, item=dtype.itemsize, outer=outer, n=size, inner=inner, k=k,
        heap=scratch + 8 * size, stride=stride,
    )  # fmt: skip
    lo.emit(TopK(), args, info, writes=[y, places])

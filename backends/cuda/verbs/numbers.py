"""Numbers that follow from sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.verbs.numbers_block import (
    COUNT_UP,
    WRITE_NUMBERS,
    WRITE_POSITIONS,
    WRITE_TAPS,
    CountUp,
    WriteNumbers,
    WritePositions,
    WriteTaps,
)
from graphc.lower.constants import constant
from graphc.lower.storage import Buffer, Ref
from graphc.ops._positions import EDGES, Reads
from graphc.ops._taps import TapRule, Taps
from graphc.report import StepInfo
from graphc.sizes import holds_sizes

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering


def _grid(count: int) -> int:
    return -(-count // THREADS)


def write_numbers(lo: CudaLowering, y: Ref, values: Sequence[int], info: StepInfo) -> None:
    args = WRITE_NUMBERS(grid=_grid(len(values)), count=len(values), y=y, records=[{"value": v} for v in values])
    lo.emit(WriteNumbers(), args, info, writes=[y])


def count_up(lo: CudaLowering, y: Ref, start: int, step: int, count: int, info: StepInfo) -> None:
    args = COUNT_UP(grid=_grid(count), count=count, y=y, start=start, step=step)
    lo.emit(CountUp(), args, info, writes=[y])


def write_positions(lo: CudaLowering, y: Ref, reads: Reads, stride: int, info: StepInfo) -> None:
    edge, low = EDGES.index(reads.edge), reads.low
    args = WRITE_POSITIONS(
        grid=_grid(reads.count), y=y, **vars(reads.positions), size=reads.size, edge=edge, low=low, stride=stride
    )
    lo.emit(WritePositions(), args, info, writes=[y])


def tap_tables(lo: CudaLowering, taps: Taps | TapRule, unit: int, dtype: np.dtype) -> tuple[Ref, Ref]:
    """Byte offsets, int64 [count, taps], of elements that lie `unit` bytes apart, and weights: constants where all is known, else
    a step writes them."""
    if isinstance(taps, TapRule) and holds_sizes((taps, unit)):
        entries = taps.count * taps.width
        tables = Ref(Buffer("taps", 8 * entries)), Ref(Buffer("weights", dtype.itemsize * entries))
        write_taps(lo, taps, unit, *tables, dtype)
        return tables
    indices, weights = (taps.indices, taps.weights) if isinstance(taps, Taps) else taps.taps()
    return constant(lo, indices.astype(np.int64) * unit).ref, constant(lo, weights.astype(dtype)).ref


def write_taps(lo: CudaLowering, rule: TapRule, unit: int, offsets: Ref, weights: Ref, dtype: np.dtype) -> None:
    assert (
        rule.shrink is None
    )  # stretched kernels have as many taps as the scale says: it is a number, and all is known
    args = WRITE_TAPS(
        grid=_grid(rule.count), offsets=offsets, weights=weights, **vars(rule.positions), size=rule.size, taps=rule.width,
        tap=rule.steps[0], cubic_a=int(np.float64(rule.cubic_coeff_a).view(np.int64)), exclude=int(rule.exclude_outside),
        unit=unit,
    )  # fmt: skip
    nbytes = rule.count * rule.width * (8 + dtype.itemsize)
    info = StepInfo(0, (), ("Taps",), "write_taps", output="taps", nbytes=nbytes)
    lo.emit(WriteTaps(rule.mode, dtype.name), args, info, writes=[offsets, weights])

"""Numbers that follow from sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.verbs.numbers_block import (
    COUNT_UP,
    WRITE_NUMBERS,
    WRITE_POSITIONS,
    CountUp,
    WriteNumbers,
    WritePositions,
)
from graphc.lower.storage import Ref
from graphc.ops._positions import EDGES, Reads
from graphc.report import StepInfo

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

"""Numbers that follow from sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphc.backends.cpu.verbs.numbers_block import COUNT_UP, WRITE_NUMBERS, CountUp, WriteNumbers
from graphc.lower.storage import Ref
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering


def write_numbers(lo: CpuLowering, y: Ref, values: Sequence[int], info: StepInfo) -> None:
    args = WRITE_NUMBERS(y=y, count=len(values), records=[{"value": v} for v in values])
    lo.emit(WriteNumbers(), args, info, writes=[y])


def count_up(lo: CpuLowering, y: Ref, start: int, step: int, count: int, info: StepInfo) -> None:
    lo.emit(CountUp(), COUNT_UP(y=y, start=start, step=step, count=count), info, writes=[y])

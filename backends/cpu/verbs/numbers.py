"""Numbers that follow from sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.verbs.numbers_block import (
    COUNT_UP,
    CUBIC,
    LINEAR,
    NEAREST,
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
    from graphc.backends.cpu.lower.lowering import CpuLowering


def write_numbers(lo: CpuLowering, y: Ref, values: Sequence[int], info: StepInfo) -> None:
    args = WRITE_NUMBERS(y=y, count=len(values), records=[{"value": v} for v in values])
    lo.emit(WriteNumbers(), args, info, writes=[y])


def count_up(lo: CpuLowering, y: Ref, start: int, step: int, count: int, info: StepInfo) -> None:
    lo.emit(CountUp(), COUNT_UP(y=y, start=start, step=step, count=count), info, writes=[y])


def write_positions(lo: CpuLowering, y: Ref, reads: Reads, stride: int, info: StepInfo) -> None:
    edge, low = EDGES.index(reads.edge), reads.low
    args = WRITE_POSITIONS(y=y, **vars(reads.positions), size=reads.size, edge=edge, low=low, stride=stride)
    lo.emit(WritePositions(), args, info, writes=[y])


INT64 = np.dtype(np.int64)
MODES = {"nearest": NEAREST, "linear": LINEAR, "cubic": CUBIC}


def tap_tables(lo: CpuLowering, taps: Taps | TapRule, unit: int, dtype: np.dtype) -> tuple[Ref, Ref]:
    """Byte offsets, int64 [count, taps], of elements that lie `unit` bytes apart, and weights: constants where all is known.
    dtype: of weights, float32 or float64."""
    if isinstance(taps, TapRule) and holds_sizes((taps, unit)):
        return write_taps(lo, taps, unit, dtype)
    indices, weights = (taps.indices, taps.weights) if isinstance(taps, Taps) else taps.taps()
    return constant(lo, indices * unit).ref, constant(lo, weights.astype(dtype, copy=False)).ref


def write_taps(
    lo: CpuLowering,
    rule: TapRule,
    unit: int,
    weights: np.dtype,
    offsets: np.dtype = INT64,
    inner: int = 1,
    tap_first: bool = False,
) -> tuple[Ref, Ref]:
    """Tables [count, taps] that a step writes: of `inner` elements, `unit` bytes each, at every place of the axis.

    tap_first: [taps, count, inner]. Dtypes of offsets: int32 or int64, of weights: float32 or float64.
    """
    taps, entries = rule.width, rule.count * inner
    tables = [Ref(Buffer(name, entries * taps * t.itemsize)) for name, t in (("taps", offsets), ("weights", weights))]
    info = StepInfo(0, (), ("Taps",), "write_taps", output="taps", nbytes=entries * taps * 16)
    args = WRITE_TAPS(
        **vars(rule.positions), size=rule.size, taps=taps, tap=rule.steps[0], mode=MODES[rule.mode],
        cubic_a=constant(lo, np.array([rule.cubic_coeff_a])).ref, exclude=int(rule.exclude_outside), inner=inner, unit=unit,
        offsets=tables[0], weights=tables[1], next=inner if tap_first else taps, next_tap=entries if tap_first else 1,
        narrow_offsets=int(offsets.itemsize == 4), narrow_weights=int(weights.itemsize == 4),
    )  # fmt: skip
    lo.emit(WriteTaps(), args, info, writes=tables)
    return tables[0], tables[1]

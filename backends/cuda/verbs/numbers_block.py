"""Numbers that follow from sizes: an int64 per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

WRITE_NUMBERS = Block("grid count y", record="value")
COUNT_UP = Block("grid count y start step")
# floor((i step + first) / divisor) in an axis of `size` elements from `low` on, `stride` bytes apart; edge: of EDGES in
# graphc/ops/_positions.py
WRITE_POSITIONS = Block("grid count y step first divisor size edge low stride")

# the taps of each of `count` positions as of WRITE_POSITIONS: `taps` elements from `tap` behind it on, `unit` bytes apart, and
# their weights. cubic_a: bits of a float64; exclude: have elements beyond the axis no weight (else they are those at its ends)?
WRITE_TAPS = Block("grid count offsets weights step first divisor size taps tap cubic_a exclude unit")


@dataclass(frozen=True, eq=False)
class WriteNumbers(Kernel, name="write_numbers"):
    """Numbers of the argument block."""

    block: ClassVar[Block] = WRITE_NUMBERS


@dataclass(frozen=True, eq=False)
class CountUp(Kernel, name="count_up"):
    """Numbers of equal distance."""

    block: ClassVar[Block] = COUNT_UP


@dataclass(frozen=True, eq=False)
class WritePositions(Kernel, name="write_positions"):
    """Elements that the results along an axis read, in bytes."""

    block: ClassVar[Block] = WRITE_POSITIONS


@dataclass(frozen=True, eq=False)
class WriteTaps(Kernel, name="write_taps"):
    """Elements that weighted sums along an axis read, in bytes, and their weights. mode: of `TapRule`; dtype: of weights."""

    block: ClassVar[Block] = WRITE_TAPS
    mode: str
    dtype: str

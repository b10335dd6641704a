"""verbs/numbers_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

WRITE_NUMBERS = Block("y count", record="value")
COUNT_UP = Block("y start step count")
_POSITIONS = "count step first divisor size"  # floor((i step + first) / divisor) in an axis of `size` elements
# edge: of EDGES in graphc/ops/_positions.py. stride: bytes from one element to the next
WRITE_POSITIONS = Block(f"y {_POSITIONS} edge low stride")
# taps: of each result, from `tap` behind its element on. mode: LINEAR, CUBIC or NEAREST; cubic_a: address of a float64.
# inner: elements of `unit` bytes at each place of the axis, each with entries of its own. offsets, weights: tables, in which
# the next result is `next` entries on and the next tap `next_tap`. narrow: offsets are int32, weights float32?
WRITE_TAPS = Block(
    f"{_POSITIONS} taps tap mode cubic_a exclude inner unit offsets weights next next_tap narrow_offsets narrow_weights"
)
NEAREST, LINEAR, CUBIC = range(3)


class WriteNumbers(Kernel, name="write_numbers"):
    """Numbers of the argument block, as int64."""

    block: ClassVar[Block] = WRITE_NUMBERS


class CountUp(Kernel, name="count_up"):
    """Numbers of equal distance, as int64."""

    block: ClassVar[Block] = COUNT_UP


class WritePositions(Kernel, name="write_positions"):
    """Elements that the results along an axis read, in bytes, as int64."""

    block: ClassVar[Block] = WRITE_POSITIONS


class WriteTaps(Kernel, name="write_taps"):
    """Elements of the weighted sums along an axis, in bytes, and their weights."""

    block: ClassVar[Block] = WRITE_TAPS

"""Loop and Scan. What a loop knows lies on the device: `control`, three int64 and two bytes: the number of this trip, how many there
were, how many there can be; shall there be another one, and the last condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

TURN, DONE, END, ON, GOING = 0, 8, 16, 24, 25  # bytes of control
CONTROL_BYTES = 32

# trips: at most. first: address of the first one's number, limit: of their number, condition: of the byte that lets the loop begin,
# or 0
LOOP_BEGIN = Block("grid control trips first limit condition")
LOOP_NEXT = Block("grid control again")  # again: address of the byte that lets the loop go on, or 0
# done, going: addresses of what takes the number of trips and the last condition
LOOP_END = Block("grid control done going")
# control: 0 for copies that no trip changes. A record per value: units of `item` bytes, in rows of per_row, `source_row` and
# `to_row` bytes apart; where it lies, and how many bytes further with each trip
CARRY = Block("grid total control", record="units per_row source source_row source_step to to_row to_step")


class LoopBegin(Kernel, name="loop_begin"):
    """Before the first trip."""

    block: ClassVar[Block] = LOOP_BEGIN


class LoopNext(Kernel, name="loop_next"):
    """After a trip."""

    block: ClassVar[Block] = LOOP_NEXT


class LoopEnd(Kernel, name="loop_end"):
    """After the last one."""

    block: ClassVar[Block] = LOOP_END


@dataclass(frozen=True, eq=False)
class Carry(Kernel, name="carry"):
    """States, elements of scanned operands and of collected results, of a trip. item: bytes that a thread moves. count: values."""

    block: ClassVar[Block] = CARRY
    item: int
    count: int

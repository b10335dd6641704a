"""verbs/numbers_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.backends.cpu.block import Block
from graphc.lower.kernel import Kernel

WRITE_NUMBERS = Block("y count", record="value")
COUNT_UP = Block("y start step count")


class WriteNumbers(Kernel, name="write_numbers"):
    """Numbers of the argument block, as int64."""

    block: ClassVar[Block] = WRITE_NUMBERS


class CountUp(Kernel, name="count_up"):
    """Numbers of equal distance, as int64."""

    block: ClassVar[Block] = COUNT_UP

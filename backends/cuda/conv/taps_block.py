"""The table of a convolution's taps: a row per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# rows: of the table, of which `count` are taps. k: taps along each axis, the first of which lies at `first`, the next ones `step`
# further; channel, x: byte strides of the image
WRITE_TABLE = Block("grid rows count y channel x_d x_h x_w k_d k_h k_w first_d first_h first_w step_d step_h step_w")


@dataclass(frozen=True, eq=False)
class WriteTable(Kernel, name="write_table"):
    """As `table_of` in conv/window.py."""

    block: ClassVar[Block] = WRITE_TABLE

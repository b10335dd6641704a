"""blocked/reorder_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# left, right: bytes at the ends of a row that are cleared
CLEAR_HALO = Block("y n n_stride blocks block_stride rows row left right")
# dense [n, channels, rows, width] and blocks of c channels, in either direction; the strides are those of the blocked side
REORDER = Block("x y n channels c rows width n_stride block_stride row_stride micro")


class ClearHalo(Kernel, name="clear_halo"):
    """Zeros into the halo of a blocked value."""

    block: ClassVar[Block] = CLEAR_HALO


class ToBlocked(Kernel, name="to_blocked"):
    """Dense to blocked."""

    block: ClassVar[Block] = REORDER


class ToDense(Kernel, name="to_dense"):
    """Blocked to dense."""

    block: ClassVar[Block] = REORDER


@dataclass(frozen=True, eq=False)
class InterleaveRow(Kernel, name="interleave_row"):
    """A row of `to_blocked`, of c channels."""

    c: int


@dataclass(frozen=True, eq=False)
class SeparateRow(Kernel, name="separate_row"):
    """A row of `to_dense`, of c channels."""

    c: int

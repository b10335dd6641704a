"""pool/pool_driver.py and the block of pool/pool_micro.py. Strides in bytes.

narrow, wide: kernels of one pixel and of `mr` pixels of the interior or, where `run` is 1, of all of them (`pool_run`).
padded: the average counts padding. end: padding at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

POOL = Block(
    "wide narrow x y n xs_n ys_n blocks out_d out_h out_w k_d k_h k_w s_d s_h s_w d_d d_h d_w p_d p_h p_w in_d in_h in_w "
    "xs_block xs_d xs_h ys_block ys_d ys_h padded end_d end_h end_w mr scratch stride run"
)

# planes, rows and columns of the window, steps to the next plane, row, column and pixel; pixels: only `pool_run` reads it
POOL_ROW = Block("planes rows columns plane row column pixel pixels")


class Pool(Kernel, name="pool"):
    """A pool of a blocked value."""

    block: ClassVar[Block] = POOL


@dataclass(frozen=True, eq=False)
class PoolRow(Kernel, name="pool_row"):
    """mr pixels of the result."""

    block: ClassVar[Block] = POOL_ROW
    op: str
    mr: int
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class PoolRun(Kernel, name="pool_run"):
    """A row of the result, mr pixels at a time, whose columns are combined first."""

    block: ClassVar[Block] = POOL_ROW
    op: str
    mr: int
    kernel_w: int
    stride: int
    dtype: str = "float32"

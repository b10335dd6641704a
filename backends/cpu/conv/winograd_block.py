"""conv/winograd_driver.py and the blocks of conv/winograd_micro.py. Strides in bytes.

tiles: of output channels, nv vectors each. group: pixel tiles at a time, whose output channels may be cut into `parts`.
rows: slots TILES of the product's kernel for a group; rest, rest_rows: slots PIXELS and TILES for the last, smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

WINOGRAD = Block(
    "transform_in gemm transform_out x u bias y zeros n xs_n ys_n blocks tiles out_h out_w in_h in_w xs_block xs_h "
    "ys_block ys_h pad_h pad_w group parts nv rows*3 rest rest_rows*3 coming_bytes lo hi scratch scratch_stride epilogue_operands",
    record="ref n block h pixel",  # an operand of the epilogue
)

WINOGRAD_IN = Block("row point temporary zeros")
# a record per operand of the epilogue; without one the first ref is 0
WINOGRAD_OUT = Block("row point temporary lo hi", record="ref row pixel")


@dataclass(frozen=True, eq=False)
class Winograd(Kernel, name="winograd"):
    """A convolution by F(m x m, 3 x 3)."""

    block: ClassVar[Block] = WINOGRAD
    m: int


@dataclass(frozen=True, eq=False)
class WinogradIn(Kernel, name="winograd_in"):
    """The transformation of a tile of the input."""

    block: ClassVar[Block] = WINOGRAD_IN
    m: int


@dataclass(frozen=True, eq=False)
class WinogradOut(Kernel, name="winograd_out"):
    """The transformation of a tile of the output."""

    block: ClassVar[Block] = WINOGRAD_OUT
    m: int
    epilogue: Expr | None

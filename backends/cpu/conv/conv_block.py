"""conv/conv_driver.py. Strides in bytes."""

from __future__ import annotations

from typing import ClassVar

from graphc.backends.cpu.conv.conv_row_block import CONV_ROW, MAX_HEIGHTS
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# rows: that make a work unit with one tile. nv: vectors that a tile makes. spans: address of a table of what each tile reads
# and makes (grouped convolution), or 0: all tiles read all blocks and make nv vectors. last_pixels, last_tiles: `pixels` and
# `tiles` of the last row, whose length may be another where rows are pieces of an image. row_coming: bytes of the next weights
# that a row fetches. chunk: input blocks at a time, for the caches' sake. template: of the micro-kernel's block.
CONV = Block(
    "micro x w bias y n xs_n ys_n tiles out_d out_h out_w k_d k_h s_d s_h d_d d_h p_d p_h in_d in_h xs_block xs_d xs_h "
    f"nv ys_d ys_h ws_tile ws_d ws_h rows spans last_pixels last_tiles*{MAX_HEIGHTS} scratch epilogue_operands row_coming "
    f"chunk ws_block stride template*{CONV_ROW.size}",
    record="ref n block d h",  # an operand of the epilogue
)

# of a tile in the table: first input block, their number, offset of its weights, first vector of outputs; then as in CONV_ROW
SPAN = Block("first blocks weights vector input_first input_end first_lane lanes")


class Conv(Kernel, name="conv"):
    """A direct convolution, row by row."""

    block: ClassVar[Block] = CONV

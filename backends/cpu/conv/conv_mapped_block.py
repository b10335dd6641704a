"""conv/conv_mapped_driver.py. Strides in bytes."""

from __future__ import annotations

from typing import ClassVar

from graphc.backends.cpu.conv.conv_row_block import BLOCK_BYTES, CONV_ROW, MAX_SOURCES
from graphc.backends.cpu.sizes import lines
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# An item is `item` pixels of an image (the last ones overlap those before), with all tiles. map: computes rows of mr pixels.
# first, others: micro-kernels of the first tile and of the others. block_step: between channel blocks of the mapped pixels,
# which are [channel block][pixel][vector bytes]. operands: of the expression. epilogue_operands. template: of the
# micro-kernel's block.
CONV_MAPPED = Block(
    "map first others n tiles pixels item mr blocks block_step vector w bias y ys_n ys_tile ys_pixel ws_tile bias_tile "
    f"scratch stride operands epilogue_operands template*{CONV_ROW.size}",
    record="ref n block pixel",  # operands of the expression, then those of the epilogue, whose `block` is the stride of a tile
)
# of a thread's scratch: the micro-kernel's block, addresses for `map_row`, then the mapped pixels
MAPPED_TABLE, MAPPED_HEAD = BLOCK_BYTES, BLOCK_BYTES + lines(8 * (1 + MAX_SOURCES))


class ConvMapped(Kernel, name="conv_mapped"):
    """A 1x1 convolution that computes its input."""

    block: ClassVar[Block] = CONV_MAPPED

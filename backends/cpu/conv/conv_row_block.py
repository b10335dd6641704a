"""conv/conv_row_micro.py; conv/conv_planes_micro.py and product/product_micro.py, too, take this block and use some words of it. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cpu.sizes import lines
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

EPILOGUE_OPERAND = Block("ref block pixel")  # strides of a channel block, of a pixel
EPILOGUE_OPERAND_SIZE = EPILOGUE_OPERAND.size
MAX_EPILOGUE_OPERANDS = 9
OPERAND = 2  # words of an operand of a prologue: address at the first pixel, stride of a channel block
MAX_SOURCES = 8
MAX_HEIGHTS = 3  # of a kernel's tiles

# blocks: of input channels. xs, ws: from one position of the window to the next; xs_w: bytes between columns of the window.
# pixels: of the row. lo, hi: without an expression the result is clipped to them, and operand 0 is the residual, whose address
# may be 0.
# coming: address of the weights that are fetched meanwhile; coming_step: how far each run of `depth` steps moves it.
# tiles: how many of each height make up a row.
# continues: not 0: y holds sums of earlier blocks. partial: not 0: sums of later blocks are to come. Tiles must not overlap in
# either case.
# first_lane, lanes: the first of the tile's lanes that are its own in y and the end of them; for `product_tile` lanes is the end
# in the last vector. input_first, input_end: the first lane of the first input block, the end of the lanes of the last one.
# sources: operands of a prologue, see conv/prologue_micro.py.
CONV_ROW = Block(
    "blocks kernel_w xs_block xs_d xs_h xs_w ws_block ws_d ws_h ys_w ys_block pixels lo hi lanes "
    f"epilogue_operands*{EPILOGUE_OPERAND_SIZE * MAX_EPILOGUE_OPERANDS} coming coming_step tiles*{MAX_HEIGHTS} "
    "continues partial first_lane input_first input_end "
    f"sources*{OPERAND * MAX_SOURCES}"
)
BLOCK_BYTES = lines(8 * CONV_ROW.size)


@dataclass(frozen=True, eq=False)
class ConvRow(Kernel, name="conv_row"):
    """A row of output pixels: see conv/conv_row_micro.py."""

    block: ClassVar[Block] = CONV_ROW
    heights: tuple[int, ...]
    nv: int
    xm: int
    xu: int
    depth: int
    epilogue: Expr | None
    masked: bool
    lines: int
    in_parts: bool
    group: int
    prologue: tuple[Expr, str] | None
    ragged: bool


@dataclass(frozen=True, eq=False)
class ConvPlanesRow(Kernel, name="conv_planes_row"):
    """A row of output pixels, which are in the lanes: see conv/conv_planes_micro.py."""

    block: ClassVar[Block] = CONV_ROW
    channels: int
    vectors: int
    columns: int
    epilogue: Expr | None

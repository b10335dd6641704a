"""integer/byte_conv_driver.py. Strides in bytes; channels are neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cpu.sizes import lines
from graphc.backends.cpu.tile.dot import SHIFTED, Dot
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# rows: of all images, of `pixels` pixels each, cut into parts of `part` pixels. x_n, x_row, y_n, y_row: from one image and one row of
# the result to the next. groups: of channels, x_group and y_group bytes apart, of `channels` outputs each, cut into `panels` of
# nv vectors (the last one of last_nv, of whose last vector last_lanes channels exist). panel: bytes of its weights.
# window, runs, steps: rows, runs and steps of BYTE_TILE.
BYTE_CONV = Block(
    "wide edge x w y rows out_h pixels part x_n x_row x_pixel x_group y_n y_row y_pixel y_group groups channels panels panel mr nv "
    "last_nv last_lanes window runs steps x_h x_run y_vector scratch stride "
    "operands varying",
    record="ref n row pixel channel",  # an operand of the epilogue; the first `varying` differ from pixel to pixel
)

# steps: of a run of bytes in which all channels of some columns of the window follow each other. Rows of the window lie x_h
# bytes apart, its runs x_run
BYTE_TILE = Block(
    "rows runs steps x_h x_run x_pixel y_pixel y_vector lanes",
    record="ref pixel vector",  # an operand of the epilogue
)

# a convolution of each channel by itself: blocks of a vector of channels, of the last of which last_lanes exist. x_step: from the
# window of one pixel of the result to the next, x_vector: from one vector of channels to the next
BYTE_DEPTHWISE = Block(
    "wide edge x w y rows out_h pixels blocks last_lanes x_n x_row x_h x_pixel x_step x_vector y_n y_row y_pixel y_vector window w_block mr "
    "scratch stride operands varying",
    record="ref n row pixel channel",
)
MAX_OPERANDS = 24  # values that an epilogue reads, and its numbers

# images [n, height, width, groups, channels] of elements of `item` bytes into a border of the byte `fill`: above, below rows and
# left, right columns, and channels up to y_group bytes of each group
BORDER = Block(
    "x y fill item n height width groups channels x_n x_h x_w x_c y_n y_h y_w y_group above left y_height y_width"
)


def begins_bytes(dot: Dot, lanes: int) -> int:
    """Of what the sums of so many lanes begin with, in front of their weights."""
    return dot.accumulator.item * lanes if dot is SHIFTED else 0


def tile_bytes() -> int:
    """Of a block of BYTE_TILE."""
    return lines(8 * (BYTE_TILE.size + BYTE_TILE.record_size * MAX_OPERANDS))


@dataclass(frozen=True, eq=False)
class ByteConv(Kernel, name="byte_conv"):
    """A convolution of bytes, or of bfloat16, tile by tile."""

    block: ClassVar[Block] = BYTE_CONV


@dataclass(frozen=True, eq=False)
class ByteConvTile(Kernel, name="byte_conv_tile"):
    """A register tile: see integer/byte_conv_micro.py. dot: name of its inner step. operands: dtype and kind of each operand of the
    epilogue."""

    block: ClassVar[Block] = BYTE_TILE
    dot: str
    mr: int
    nv: int
    masked: bool
    epilogue: Expr | None
    operands: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class ByteDepthwise(Kernel, name="byte_depthwise"):
    """A convolution of each channel by itself, row by row."""

    block: ClassVar[Block] = BYTE_DEPTHWISE


@dataclass(frozen=True, eq=False)
class ByteDepthwiseRow(Kernel, name="byte_depthwise_row"):
    """A row of pixels of a vector of channels: see integer/byte_depthwise_micro.py. dot: what the images are operands of."""

    block: ClassVar[Block] = BYTE_TILE
    dot: str
    mr: int
    kernel_w: int
    stride: int
    dilation: int
    masked: bool
    epilogue: Expr | None
    operands: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Border(Kernel, name="byte_border"):
    """Images of bytes in a border."""

    block: ClassVar[Block] = BORDER


# the largest of windows of images [n, in_h, in_w, channels] of bytes or bfloat16. micro: of one window
BYTE_POOL = Block(
    "micro x y n in_h in_w out_h out_w k_h k_w s_h s_w d_h d_w p_h p_w x_n x_row x_h x_w x_pixel y_n y_row y_pixel channels"
)


@dataclass(frozen=True, eq=False)
class BytePool(Kernel, name="byte_pool"):
    """The largest bytes, or bfloat16, of windows."""

    block: ClassVar[Block] = BYTE_POOL


@dataclass(frozen=True, eq=False)
class LargestBytes(Kernel, name="largest_bytes"):
    """See integer/byte_pool_micro.py."""

    block: ClassVar[Block] = BYTE_POOL
    dtype: str

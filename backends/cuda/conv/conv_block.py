"""Convolutions: weights [m, k] times the windows of an image [k, pixels], k the taps of all channels of a group; and those of
one channel to a group.

in: of the image; out: of the result (its depth is not needed); s: strides; p: positions that the first window begins before the
image, negative where it begins inside; x: byte strides of the image. Of batch dims the first are groups, then images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cuda.product.product_block import BATCH, RECORD, TILED, tensor_cores
from graphc.backends.cuda.product.tile import Tile, WarpTile
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# table: words for each of k: bytes from the first position of a window, position along h and w (upper and lower half), along d
ENTRY = 3
CONV = Block(
    f"{TILED} table in_d in_h in_w out_h out_w s_d s_h s_w p_d p_h p_w x_d x_h x_w",
    record=RECORD,
)
# group: results of a channel; k, d: size and dilations of the window
DEPTHWISE = Block(
    "grid total channels group x x_n x_c w w_c w_d w_h w_w in_d in_h in_w out_h out_w pixels k_d k_h k_w d_d d_h d_w "
    "s_d s_h s_w p_d p_h p_w x_d x_h x_w",
    record=RECORD,
)


@dataclass(frozen=True, eq=False)
class Conv(Kernel, name="conv"):
    """dtype: of the operands. expression: see `Ending`; operands: the dtypes that it reads after the sum."""

    block: ClassVar[Block] = CONV
    dtype: str
    tile: Tile
    expression: Expr
    operands: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Depthwise(Kernel, name="depthwise"):
    """As `Conv`; deep, run, wide: as of `TensorConv`."""

    block: ClassVar[Block] = DEPTHWISE
    dtype: str
    deep: bool
    run: int
    wide: tuple[bool, ...]
    expression: Expr
    operands: tuple[str, ...]


# Convolutions on tensor cores: [pixels, steps of the sum] times [steps, outputs of a group]. m: pixels of all images; n: outputs
# of a group; line: bytes of an output's weights, taps outside, channels inside; x_group: bytes from one group's channels to the
# next one's; channels: their bytes; depth: steps of a tile's depth, `part` of them for each part of the sum.
# table: words for each chunk of a line: its place in a window, along d (upper half of the first) and h, w (halves of the second),
# and in the pixel (lower half of the first). dims, and batch dims of the records: groups, images, parts of the sum
TENSOR_CONV = Block(
    f"grid tiles_m tiles_n m n x weights line w_group x_n x_group channels depth part table dims*{BATCH} "
    "in_d in_h in_w out_d out_h out_w s_d s_h s_w p_d p_h p_w x_d x_h x_w",
    record=RECORD,
)
CHUNK = 16  # bytes of a pixel that are copied at once
# partial: [parts, pixels, outputs] of float32
CONV_SUM = Block("grid total outputs parts partial between out_d out_h out_w", record=RECORD)


@dataclass(frozen=True, eq=False)
class TensorConv(Kernel, name="tensor_conv"):
    """As `Conv`. deep: have images a depth? flat: does the ending walk all pixels of all images as one row? run: outputs that
    a thread finishes at once, neighbours in memory, as neighbouring threads do; 0 where these have neighbouring pixels. wide: of
    each operand, are they neighbours there, too? products: as of `TensorProduct`."""

    block: ClassVar[Block] = TENSOR_CONV
    dtype: str
    tile: WarpTile
    deep: bool
    flat: bool
    run: int
    wide: tuple[bool, ...]
    expression: Expr
    operands: tuple[str, ...]
    products: int = 1

    @property
    def how(self) -> str:
        """For a person."""
        return tensor_cores(self.dtype, self.products) + ", wgmma" * self.tile.group


@dataclass(frozen=True, eq=False)
class ConvSum(Kernel, name="conv_sum"):
    """The sum of parts, and the ending, as of `TensorConv`."""

    block: ClassVar[Block] = CONV_SUM
    flat: bool
    expression: Expr
    operands: tuple[str, ...]

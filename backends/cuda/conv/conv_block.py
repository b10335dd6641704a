"""Convolutions: weights [m, k] times the windows of an image [k, pixels], k the taps of all channels of a group; and those of
one channel to a group.

in: of the image; out: of the result (its depth is not needed); s: strides; p: positions that the first window begins before the
image, negative where it begins inside; x: byte strides of the image. Of batch dims the first are groups, then images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cuda.product.product_block import RECORD, TILED
from graphc.backends.cuda.product.tile import Tile
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
    """As `Conv`. last: do neighbouring threads have neighbouring channels, or (else) neighbouring pixels?"""

    block: ClassVar[Block] = DEPTHWISE
    dtype: str
    last: bool
    expression: Expr
    operands: tuple[str, ...]

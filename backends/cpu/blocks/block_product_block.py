"""blocks/block_product_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# m rows; packed: those of whole tiles of ROWS, [tile][k][row], a_tile bytes each. tiles: of columns. kernels: `block_columns` for ROWS rows, and for one. whole: blocks of the full length; tail: steps of
# a shorter last one. groups, scale_groups: from the weights and scales of 16 columns to the next.
BLOCK_PRODUCT = Block(
    "a packed a_tile w s y m tiles many one whole tail a_row y_row groups scale_groups tile_weights tile_scales tile_y"
)
ROWS = 4
COLUMNS = 16  # whose weights lie side by side, as graphc/ops/block_product.py packs them
ITEM = 4


class BlockProduct(Kernel, name="block_product"):
    block: ClassVar[Block] = BLOCK_PRODUCT


@dataclass(frozen=True, eq=False)
class BlockColumns(Kernel, name="block_columns"):
    """Some rows of the result, of `groups` times 16 columns. steps: of a block; each of one byte of weights per column."""

    block: ClassVar[Block] = BLOCK_PRODUCT
    rows: int
    groups: int
    bits: int
    steps: int

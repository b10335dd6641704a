"""blocks/block_product_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# m rows; packed: those of whole tiles of ROWS, [tile][k][row], a_tile bytes each. tiles: of columns. kernels: `block_columns` for ROWS rows, and for one. blocks: of each row; zero: the number
# that stands for 0 in all of them. groups, scale_groups: from the weights and scales of 16 columns to the next.
BLOCK_PRODUCT = Block(
    "a packed a_tile w s y m tiles many one blocks zero a_row y_row groups scale_groups tile_weights tile_scales tile_y"
)
# tiles of rows, of columns; packed: as round_tile leaves them
BYTE_PRODUCT = Block("packed a_tile w s y m tiles row_tiles kernel blocks y_row tile_weights tile_scales tile_y")
ROUND_ROWS = Block("a packed a_tile m row_tiles kernel blocks zero a_row")
ROWS = 4
COLUMNS = 16  # whose weights lie side by side, as graphc/ops/block_product.py packs them
ITEM = WORD = 4  # bytes of a number, of neighbouring weights of a column


class BlockProduct(Kernel, name="block_product"):
    block: ClassVar[Block] = BLOCK_PRODUCT


@dataclass(frozen=True, eq=False)
class BlockColumns(Kernel, name="block_columns"):
    """Some rows of the result, of `groups` times 16 columns. steps: of a block; each of four bytes of weights per column. shifts:
    does each block have a shift for each column? Else all have one zero point."""

    block: ClassVar[Block] = BLOCK_PRODUCT
    rows: int
    groups: int
    bits: int
    steps: int
    shifts: bool


@dataclass(frozen=True, eq=False)
class ByteProduct(Kernel, name="block_byte_product"):
    """The same of rows that are rounded to bytes, in tiles of `rows`; the last tile begins so many before the end."""

    block: ClassVar[Block] = BYTE_PRODUCT
    rows: int


@dataclass(frozen=True, eq=False)
class ByteColumns(Kernel, name="block_byte_columns"):
    """A tile of rows times 16 columns; as BlockColumns."""

    block: ClassVar[Block] = BYTE_PRODUCT
    rows: int
    bits: int
    steps: int
    shifts: bool


@dataclass(frozen=True, eq=False)
class RoundRows(Kernel, name="round_rows"):
    """Rows of floats to tiles of bytes."""

    block: ClassVar[Block] = ROUND_ROWS
    rows: int


@dataclass(frozen=True, eq=False)
class RoundTile(Kernel, name="round_tile"):
    """One tile of them, in blocks of `size`."""

    block: ClassVar[Block] = ROUND_ROWS
    rows: int
    size: int
    shifts: bool


def record(rows: int, size: int) -> int:
    """Bytes of a block of a tile: [size / 4][rows][4], for each row what one step is, and what its sums are less."""
    return rows * (size + 2 * ITEM)

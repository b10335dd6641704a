"""blocks/block_product_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# m rows in row_tiles tiles, the last of which ends with the last row; packed: as the kernel reads them, a_tile bytes each.
# tiles: of 16 columns. blocks: of each row; zero: the number that stands for 0 in all of them
BLOCK_PRODUCT = Block("packed a_tile w s y m row_tiles tiles kernel blocks zero y_row tile_weights tile_scales tile_y")
ROUND_ROWS = Block("a packed a_tile m row_tiles kernel blocks zero a_row")
COLUMNS = 16  # whose weights lie side by side, as graphc/ops/block_product.py packs them
ITEM = WORD = 4  # bytes of a number, of neighbouring weights of a column
STEPS = 127  # that a rounded block has to its largest magnitude, as there


@dataclass(frozen=True, eq=False)
class BlockProduct(Kernel, name="block_product"):
    """Tiles of `rows` rows times tiles of columns."""

    block: ClassVar[Block] = BLOCK_PRODUCT
    rows: int


@dataclass(frozen=True, eq=False)
class BlockColumns(Kernel, name="block_columns"):
    """A tile of rows times 16 columns, in floats. steps: of a block; each of four bytes of weights per column. shifts: does each
    block have a shift for each column? Else all have one zero point."""

    block: ClassVar[Block] = BLOCK_PRODUCT
    rows: int
    bits: int
    steps: int
    shifts: bool


@dataclass(frozen=True, eq=False)
class ByteColumns(Kernel, name="block_byte_columns"):
    """The same of rows that `round_tile` has made bytes of."""

    block: ClassVar[Block] = BLOCK_PRODUCT
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

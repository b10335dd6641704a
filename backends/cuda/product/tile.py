"""Tiles of a matrix product: what a thread block computes, and how its threads share the work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from graphc.sizes import for_speed

MULTIPROCESSORS = 132  # of a large GPU: with fewer thread blocks, some have nothing to do


@dataclass(frozen=True)
class Tile:
    """m x n numbers of the result, k steps of the sum at a time; each thread has tm x tn of them. All are powers of two, and
    there are at least as many threads as a tile has rows, columns or steps."""

    m: int
    n: int
    k: int
    tm: int
    tn: int

    @property
    def threads(self) -> int:
        return (self.m // self.tm) * (self.n // self.tn)

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"


FLAT = Tile(16, 64, 16, 4, 4)
SMALL = Tile(32, 32, 16, 4, 4)
MIDDLE = Tile(64, 64, 16, 8, 4)
LARGE = Tile(128, 128, 8, 8, 8)  # of elements of four bytes: those of eight would fill the registers
TALL = Tile(128, 64, 8, 8, 4)  # where threads keep more than sums: the places of a convolution's pixels

DEPTH = 32  # steps of the sum in a stage of warps


@dataclass(frozen=True)
class WarpTile:
    """m x n numbers of the result, of which each warp has wm x wn, and `stages` tiles of each operand in shared memory, `depth`
    steps of the sum in each: one is multiplied while the others are on their way. blocks: that a multiprocessor has at once.
    group: do four warps multiply together, by wgmma? Each has 16 rows and all columns then, and lines of a stage 128 bytes.
    digits: tiles of each operand in a stage: 2 of groups that multiply the digits of float32, the first and what is left."""

    m: int
    n: int
    wm: int
    wn: int
    stages: int
    blocks: int = 1
    group: bool = False
    depth: int = DEPTH
    digits: int = 1

    @property
    def threads(self) -> int:
        return 32 * (self.m // self.wm) * (self.n // self.wn)

    def shared(self, item: int) -> int:
        """Bytes of shared memory: the tiles of operands, of elements of `item` bytes, and in their place the sums."""
        return max(self.stages * self.digits * (self.m + self.n) * self.depth * item, self.m * self.n * 4)

    def __str__(self) -> str:
        return f"{self.m}x{self.n}"


@dataclass(frozen=True)
class Run:
    """How a row of results is written: `count` neighbours at once. walks: how each operand of the ending lies along them: 'r' in a
    row of its own, 's' the same element for all, 'e' elements anywhere."""

    count: int = 1
    walks: str = ""

    def __str__(self) -> str:
        return f"{self.count}{self.walks}"


# for elements of two bytes; of four, by one product of tf32, and by three, whose digits need the registers of wider tiles
WARPS_HALF = (
    WarpTile(128, 256, 64, 64, 4),
    WarpTile(128, 128, 64, 32, 4, 2),
    WarpTile(64, 64, 32, 32, 4, 4),
    WarpTile(32, 128, 32, 32, 4, 4),
)
WARPS_FLOAT = (WarpTile(128, 128, 64, 32, 3), WarpTile(64, 64, 32, 32, 3, 3), WarpTile(32, 128, 32, 32, 3, 2))
WARPS_TF32 = (WarpTile(128, 256, 64, 64, 3), *WARPS_FLOAT)
# where GPUs have wgmma: of half precision, of one product of tf32, and of three
GROUPS = (
    WarpTile(128, 256, 16, 256, 4, 1, True, 64),
    WarpTile(128, 128, 16, 128, 4, 1, True, 64),
    WarpTile(256, 128, 16, 128, 4, 1, True, 64),
    WarpTile(256, 64, 16, 64, 4, 1, True, 64),
    WarpTile(64, 64, 16, 64, 4, 3, True, 64),
)
GROUPS_TF32 = tuple(replace(t, depth=32) for t in GROUPS)
GROUPS_FLOAT = (WarpTile(128, 128, 16, 128, 3, 1, True, 32, 2),)


def warp_tiles(item: int, products: int) -> tuple[WarpTile, ...]:
    """What there is for elements of so many bytes. products: see `TensorProduct`."""
    return WARPS_HALF if item == 2 else WARPS_FLOAT if products == 3 else WARPS_TF32


def group_tiles(item: int, products: int) -> tuple[WarpTile, ...]:
    """The same, of groups of warps."""
    return GROUPS if item == 2 else GROUPS_FLOAT if products == 3 else GROUPS_TF32


@for_speed
def tile_for(m: int, n: int, batch: int, item: int, largest: Tile = LARGE) -> Tile:
    """The largest tile that leaves every multiprocessor something to do. item: bytes of a number that is summed."""
    for tile in (largest, MIDDLE) if item <= 4 else (MIDDLE,):
        if batch * -(-m // tile.m) * -(-n // tile.n) >= MULTIPROCESSORS and m > tile.m // 2 and n > tile.n // 2:
            return tile
    return FLAT if m <= FLAT.m else SMALL


def side(name: str, rows: int, columns: int, threads: int, row: int, column: int) -> dict[str, Any]:
    """How threads share a tile of an operand, as words of the block: neighbouring threads have neighbouring elements.

    rows, columns: of the tile; row, column: the operand's byte strides. Thread t begins at row (t >> row_shift) % rows and
    column (t >> column_shift) % columns; its next element is `rows` and `columns` further, `step` bytes.
    """
    across = abs(column) <= abs(row)  # along a row of the operand
    down, right = (threads // columns, 0) if across else (0, threads // rows)
    return {
        f"{name}_row": row,
        f"{name}_column": column,
        f"{name}_row_shift": _log2(columns) if across else 0,
        f"{name}_column_shift": 0 if across else _log2(rows),
        f"{name}_rows": down,
        f"{name}_columns": right,
        f"{name}_step": down * row + right * column,
    }


def side_words(name: str) -> str:
    """The names of those words."""
    return " ".join(side(name, 1, 1, 1, 0, 0))


def _log2(n: int) -> int:
    return n.bit_length() - 1

"""Copies: an element per thread, or tiles that are turned in shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel
from graphc.lower.limits import TABLE_AXES

COPY_DIMS = 8  # loops of one launch
# dims, strides: innermost first, in bytes
COPY_STRIDED = Block(f"grid total x y dims*{COPY_DIMS} x_strides*{COPY_DIMS} y_strides*{COPY_DIMS}")
# turned: `s` neighbours of x, which are y_line bytes apart in y, times `t` neighbours of y, which are x_line apart in x; dims,
# strides: of the loops around them
AROUND = COPY_DIMS - 2
COPY_TILES = Block(f"grid tiles_s tiles_t s t x y x_line y_line dims*{AROUND} x_strides*{AROUND} y_strides*{AROUND}")
# tables: of byte offsets, innermost first; dims: how many each has
COPY_TABLES = Block(f"grid total x y fill dims*{TABLE_AXES + 1} tables*{TABLE_AXES + 1}")


@dataclass(frozen=True, eq=False)
class CopyStrided(Kernel, name="copy_strided"):
    """item: bytes of an element. loops: how many there are."""

    block: ClassVar[Block] = COPY_STRIDED
    item: int
    loops: int


@dataclass(frozen=True, eq=False)
class CopyTiles(Kernel, name="copy_tiles"):
    """item: bytes of an element. reads, writes: bytes that are moved at once on each side, `item` up to `word_of(item)`.
    loops: how many there are around tiles."""

    block: ClassVar[Block] = COPY_TILES
    item: int
    reads: int
    writes: int
    loops: int


def word_of(item: int) -> int:
    """Bytes of what a thread moves: of narrow items several."""
    return max(4, item)


def side_of(item: int) -> int:
    """Elements of a tile's side: a word for each thread of a warp."""
    return 32 * word_of(item) // item


@dataclass(frozen=True, eq=False)
class CopyTables(Kernel, name="copy_by_table"):
    """item: bytes of an element. tables: how many there are."""

    block: ClassVar[Block] = COPY_TABLES
    item: int
    tables: int

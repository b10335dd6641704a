"""selection/positions_driver.py. Elements are looked at in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

CHUNK = 4096  # elements; their positions stay in the level-1 cache until they are coordinates

# counts: int64 per chunk. micro: `count_true`
COUNT_CHUNKS = Block("x n item counts micro")
# found: int64 [rank, total] coordinates; total: where their number goes. micro: `find_true`. A record per dim of x
FIND_CHUNKS = Block("x n item counts micro found total rank", record="size")
# y[outer, i, block] = x[outer, positions[i], block]; size: of that axis; count: where the number of positions is; block: bytes
TAKE = Block("x y positions count outer size block")


class CountChunks(Kernel, name="count_chunks"):
    """How many elements of each chunk are not zero."""

    block: ClassVar[Block] = COUNT_CHUNKS


class FindChunks(Kernel, name="find_chunks"):
    """Where they are."""

    block: ClassVar[Block] = FIND_CHUNKS


class Take(Kernel, name="take"):
    """Blocks at positions, whose number is read from memory."""

    block: ClassVar[Block] = TAKE


@dataclass(frozen=True, eq=False)
class CountTrue(Kernel, name="count_true"):
    """How many elements are not zero."""

    dtype_name: str


@dataclass(frozen=True, eq=False)
class FindTrue(Kernel, name="find_true"):
    """Positions of the elements that are not zero."""

    dtype_name: str

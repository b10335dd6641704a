"""Along an ordered axis, the middle of [outer, size, inner] dense elements: extremes, running sums and products, the k largest.

total: how many there are of the axis, outer * inner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# width: axes of a block of threads, a power of two; neighbouring threads share one if inner is 1, else they have one each
EXTREME = Block("grid total x y size inner width")
# first: bytes of the element that comes first. step: bytes from one to the next
SCAN = Block("grid total x y size inner first step")
# A run is a part of the axis in order, `kept` items of a key and a place, int64. tiles: runs of an axis. width: elements of one
# that are sorted, a power of two. to: runs
SORT_TILE = Block("grid x size inner tiles width kept to values places")
# source: `runs` runs of `length` items for each axis; to: `pairs` of `kept` items, each of two, or of one that is left
MERGE_RUNS = Block("grid total x size inner source runs length pairs kept to values places")


@dataclass(frozen=True, eq=False)
class Extreme(Kernel, name="extreme"):
    """The position of the largest or smallest; of equals the last or the first."""

    block: ClassVar[Block] = EXTREME
    dtype: str
    largest: bool
    last: bool


@dataclass(frozen=True, eq=False)
class ScanColumns(Kernel, name="scan_columns"):
    """Running sums or products: a thread for each axis."""

    block: ClassVar[Block] = SCAN
    dtype: str
    combine: str
    exclusive: bool


@dataclass(frozen=True, eq=False)
class ScanTiles(Kernel, name="scan_tiles"):
    """Running sums or products: a block of threads for each axis."""

    block: ClassVar[Block] = SCAN
    dtype: str
    combine: str
    exclusive: bool


@dataclass(frozen=True, eq=False)
class SortTile(Kernel, name="sort_tile"):
    """A run of `tile` elements, at most. last: it is all of the axis, so that what it gives is the result."""

    block: ClassVar[Block] = SORT_TILE
    dtype: str
    largest: bool
    tile: int
    last: bool


@dataclass(frozen=True, eq=False)
class MergeRuns(Kernel, name="merge_runs"):
    """Runs of two each. item: bytes of an element. last: what it gives is the result."""

    block: ClassVar[Block] = MERGE_RUNS
    item: int
    last: bool

"""Reading and writing at positions that come from data. Strides in bytes.

indices: address of the positions; wide: are they int64 (else int32)? The two words behind the block of a kernel that looks at
positions are its report of the first that is out of range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel
from graphc.lower.limits import INDEX_AXES, INDEX_DIMS

_POSITIONS = "grid total indices wide"
# negative: may positions count from the end? loops: of `dims` extents, innermost first, with steps of the positions and of the
# data. axes: for each of axis_count axes that a place is looked up in, its size and its stride
_LOOKUP = (
    f"{_POSITIONS} negative loops dims*{INDEX_DIMS} index_strides*{INDEX_DIMS} data_strides*{INDEX_DIMS} "
    f"axis_count axes*{2 * INDEX_AXES}"
)
POSITIONS = Block(_POSITIONS)  # the head of all that look at positions
LOOKUP = Block(_LOOKUP)  # the head of the next two
# threads: of each place, an item each; block: bytes, or 0 where positions are looked at and nothing is read
GATHER = Block(f"{_LOOKUP} x y threads block")
# block: bytes of an update. slots: for each place the number of its block in y, or -1 where a position is out of range; 0 where
# positions are looked at and nothing is written. heads: a word for each block of y, of which those that places name become 0
SCATTER_PLACES = Block(f"{_LOOKUP} block slots heads")
# heads: 1 + number of a place of each block. next: for each place 1 + number of another one of the same block, or 0
SCATTER_MARK = Block("grid total slots heads next")
SCATTER_LAST = Block("grid total slots heads y updates threads")
# places: how many. block: elements of an update
SCATTER_COMBINE = Block("grid total places slots heads next y updates block")
# indices: the lengths. threads: of a step, an item each; rows: of a batch entry, `steps` or 1; block: bytes of a step
REVERSE = Block(f"{_POSITIONS} x y threads rows steps block batch_stride time_stride")


@dataclass(frozen=True, eq=False)
class Gather(Kernel, name="gather"):
    """Reads at positions. item: bytes that a thread moves."""

    block: ClassVar[Block] = GATHER
    item: int


@dataclass(frozen=True, eq=False)
class ScatterPlaces(Kernel, name="scatter_places"):
    """Where each update goes."""

    block: ClassVar[Block] = SCATTER_PLACES


@dataclass(frozen=True, eq=False)
class ScatterMark(Kernel, name="scatter_mark"):
    """Which updates go to one place: the last one or, linked, all of them in a list."""

    block: ClassVar[Block] = SCATTER_MARK
    linked: bool


@dataclass(frozen=True, eq=False)
class ScatterLast(Kernel, name="scatter_last"):
    """Writes the last update of each place. item: bytes that a thread moves."""

    block: ClassVar[Block] = SCATTER_LAST
    item: int


@dataclass(frozen=True, eq=False)
class ScatterCombine(Kernel, name="scatter_combine"):
    """Combines what is at each place with its updates, in order."""

    block: ClassVar[Block] = SCATTER_COMBINE
    dtype: str
    reduction: str


@dataclass(frozen=True, eq=False)
class Reverse(Kernel, name="reverse_sequence"):
    """Sequences backwards. item: bytes that a thread moves."""

    block: ClassVar[Block] = REVERSE
    item: int

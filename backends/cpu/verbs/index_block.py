"""verbs/index_driver.py. Strides in bytes."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel
from graphc.lower.limits import INDEX_AXES, INDEX_DIMS

# indices: address of the positions. wide: are they int64 (else int32)? negative: may they count from the end? count: of blocks,
# over loops of `dims` extents, innermost first, with steps of the positions and of the data. axes: for each of axis_count axes
# that a block is looked up in, its size and its stride.
_LOOKUP = (
    f"indices wide negative axis_count count dims*{INDEX_DIMS} index_strides*{INDEX_DIMS} data_strides*{INDEX_DIMS} "
    f"axes*{2 * INDEX_AXES}"
)
LOOKUP = Block(_LOOKUP)  # the head of the next two
GATHER = Block(f"{_LOOKUP} x y block")  # block: bytes
# x: what lies under the updates, or 0 for zeros. total, block: elements of y and of an update, of `item` bytes. micro: a
# `map_row` of the old element and the new one
SCATTER = Block(f"{_LOOKUP} x y updates total block item micro scratch stride")
# lengths: as indices, with `wide`. block: bytes of a step
REVERSE_SEQUENCE = Block("x y lengths wide batch time block batch_stride time_stride")


class Gather(Kernel, name="gather"):
    """Reads at positions from data."""

    block: ClassVar[Block] = GATHER


class Scatter(Kernel, name="scatter"):
    """Writes at positions from data."""

    block: ClassVar[Block] = SCATTER


class ReverseSequence(Kernel, name="reverse_sequence"):
    """Sequences backwards."""

    block: ClassVar[Block] = REVERSE_SEQUENCE

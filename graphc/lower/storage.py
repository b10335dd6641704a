"""Where values live: buffers, addresses in them, strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from graphc.dtypes import UINT8, Element
from graphc.types import TensorType


class Place(Protocol):
    """Where the bytes of a constant lie."""

    @property
    def address(self) -> int: ...


class Piece(NamedTuple):
    """Bytes [offset, end) of a buffer."""

    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


@dataclass(frozen=True, eq=False)
class Buffer:
    """A piece of memory. kind: 'arena' (planned), 'scratch' (one step only, planned too), 'extern' (an input or a result
    that the caller owns, or a value of a host step) or 'const' (at `place`). spread: for checked runs, the pieces that are
    apart from each other, with nothing between them. element: what a constant holds."""

    name: str
    nbytes: int
    kind: str = "arena"
    place: Place | None = None
    spread: tuple[Piece, ...] = ()
    element: Element = UINT8


@dataclass(frozen=True, eq=False)
class ExternBuffer(Buffer):
    """A buffer that Python sees as an array."""

    shape: tuple[int, ...] = ()
    dtype: np.dtype = np.dtype(np.uint8)


@dataclass(frozen=True)
class Ref:
    """An address: `offset` bytes into a buffer."""

    buffer: Buffer
    offset: int = 0

    def __add__(self, nbytes: int) -> Ref:
        return Ref(self.buffer, self.offset + nbytes)


@dataclass(frozen=True)
class Storage:
    """Where a value lives: address of its first element, its type, byte strides.

    Dense: one stride per logical dim (row-major unless it is a view). Blocked [N, C, *spatial]: strides of n, channel block
    and each spatial dim; the elements of a block are contiguous, rows follow each other. Each row has the halo of the type
    around it, so that the first element lies behind the left one.

    channels_last: dense [N, C, *spatial] whose channels are innermost in memory.
    """

    ref: Ref
    type: TensorType
    strides: tuple[int, ...]
    channels_last: bool = False

    @property
    def contiguous(self) -> bool:
        return self.type.layout is None and self.strides == dense_strides(self.type)

    @property
    def order(self) -> tuple[int, ...]:
        """The dims of a dense value, the outermost in memory first."""
        rank = self.type.rank
        return channels_last_order(rank) if self.channels_last else tuple(range(rank))

    @property
    def packed(self) -> bool:
        """Dense and without gaps, in whichever order."""
        return self.type.layout is None and self.strides == packed_strides(self.type, self.order)

    @property
    def whole_rows(self) -> tuple[Ref, int]:
        """Of a blocked value: address of its first row's left halo, bytes of a row with both halos."""
        left, right = halo_bytes(self.type)
        return self.ref + -left, left + self.type.extents[-1] * self.strides[-1] + right


def dense_strides(t: TensorType) -> tuple[int, ...]:
    return packed_strides(t, range(t.rank))


def packed_strides(t: TensorType, order: Sequence[int]) -> tuple[int, ...]:
    """Byte strides of dims that lie in this order in memory, the outermost first."""
    strides, step, extents = [0] * t.rank, t.dtype.itemsize, t.extents
    for axis in reversed(order):
        strides[axis] = step
        step *= extents[axis]
    return tuple(strides)


def channels_last_order(rank: int) -> tuple[int, ...]:
    """Of [N, C, *spatial]."""
    return (0, *range(2, rank), 1)


def channels_last_strides(t: TensorType) -> tuple[int, ...]:
    return packed_strides(t, channels_last_order(t.rank))


def blocked_strides(t: TensorType) -> tuple[int, ...]:
    """Byte strides of [n, channel block, *spatial] with the halo around the innermost spatial dim."""
    layout = t.blocks
    n_blocks = -(-t.extents[1] // layout.c)
    step = layout.c * t.dtype.itemsize
    strides = []
    for axis, d in enumerate(reversed(t.extents[2:])):
        strides.append(step)
        step *= d + (layout.left + layout.right if axis == 0 else 0)
    return (step * n_blocks, step, *reversed(strides))


def storage_bytes(t: TensorType) -> int:
    if t.layout is None:
        return t.nbytes
    return blocked_strides(t)[0] * t.extents[0]


def halo_bytes(t: TensorType) -> tuple[int, int]:
    """Left and right of each row of a value."""
    if t.layout is None:
        return 0, 0
    pixel = t.layout.c * t.dtype.itemsize
    return t.layout.left * pixel, t.layout.right * pixel

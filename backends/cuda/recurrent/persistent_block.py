"""A recurrent layer as one grid that walks through time, each block with its share of the weights in registers.

A team of blocks has a direction and up to `rows` rows of the batch, each block some of the units. What a block makes of its units
the others of its team read as tagged words (codegen/tagged.py) in scratch memory: for each stage of a step a slot of them,
[row][unit]. The state 'h' has two slots, for steps in turn: who writes h of step t + 1 has read all of step t, which nobody
wrote before he had read all of step t - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphc.backends.cuda.recurrent.recurrent_block import FIELDS
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel
from graphc.lower.recurrent_cells import Stage

WARP = 32
VECTOR = 16  # bytes of a state that a lane reads at once
CHUNK = 4  # rows that are multiplied at once
IN_FLIGHT = 8, 4  # pairs of words that a thread reads at once; where 512 threads share the registers
TENSOR_ROWS, TENSOR_LANES, TENSOR_DEPTH = (
    16,
    8,
    32,
)  # rows of an instruction; threads of a unit; numbers of a row at once
WORDS, GATES = 4, 2  # of 16 bytes; gates of a unit in an instruction's eight columns
PROBED = 2  # pairs that a thread reads again until they are there
FIRST_TAG = 1  # of the states before the first step

# teams: one for each direction and group of rows; parts: blocks of a team; team_bytes: of a team's part of the scratch memory. r: weights as ONNX has them,
# [gate][unit][unit of the state] of a direction
PERSISTENT = Block(f"{FIELDS} teams parts team_bytes")


@dataclass(frozen=True)
class Layout:
    """How a team shares a layer. rows: of the batch. lanes: threads that share a unit's sums, each with every lanes-th vector of its
    weights, `span` of them. warps: of a block. item: bytes of a number of the state. tensor: do tensor cores multiply? Then a warp
    has four units, each thread one of them and two rows, and `span` steps of 32 of the sum."""

    rows: int
    lanes: int
    warps: int
    span: int
    item: int = 4
    tensor: bool = False

    @property
    def threads(self) -> int:
        return WARP * self.warps

    @property
    def units(self) -> int:
        """Of a block."""
        return self.threads // self.lanes

    @property
    def vector(self) -> int:
        """Numbers that are read at once."""
        return VECTOR // self.item

    @property
    def pitch(self) -> int:
        """Numbers of a row of the state, with zeros at the end."""
        return self.span * self.lanes * self.vector

    @property
    def ahead(self) -> int:
        """Pairs of words that a thread waits for at once."""
        return min(IN_FLIGHT[self.threads > 256], -(-self.rows * self.pitch * self.item // (8 * self.threads)))

    @property
    def probes(self) -> bool:
        """Does a thread wait for one pair before it reads the others?"""
        return self.ahead > PROBED

    @property
    def tile(self) -> int:
        """Numbers of all rows, rounded up to what the threads read at once."""
        once = self.threads * self.ahead * 8 // self.item
        return -(-self.rows * self.pitch // once) * once

    @property
    def each(self) -> int:
        """Rows whose states a thread has."""
        return TENSOR_ROWS // TENSOR_LANES if self.tensor else 1

    @property
    def line(self) -> int:
        """Bytes of a row of a plane, for tensor cores: so that eight threads, which read two rows, meet in no bank."""
        return 2 * self.pitch + 64 * (self.span % 2 == 0)

    @property
    def plane(self) -> int:
        """Bytes of the upper digits of all rows of a state, behind which the lower ones follow."""
        return -(-self.tile // self.pitch) * self.line

    @property
    def half(self) -> int:
        """Bytes of a state in shared memory."""
        return 2 * self.plane if self.tensor else self.tile * self.item

    @property
    def shared(self) -> int:
        """Bytes of shared memory: the state that is multiplied, and the one that comes after it."""
        return 2 * self.half

    @property
    def slot(self) -> int:
        """Bytes of scratch memory of a state, with tags."""
        return 2 * self.tile * self.item


@dataclass(frozen=True, eq=False)
class Persistent(Kernel, name="recurrent_persistent"):
    """directions, gates, dtype: see `Recurrent`; the others: see `Layout`. width: weights that lie at multiples of so many."""

    block: ClassVar[Block] = PERSISTENT
    directions: tuple[tuple[Stage, ...], ...]
    gates: int
    rows: int
    lanes: int
    warps: int
    span: int
    width: int
    tensor: bool = False
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class PersistentBegin(Kernel, name="recurrent_persistent_begin"):
    """The states before the first step, and words of scratch memory without a tag that anybody waits for."""

    block: ClassVar[Block] = PERSISTENT
    slots: int
    rows: int
    lanes: int
    warps: int
    span: int
    tensor: bool = False
    dtype: str = "float32"


def layout_of(rows: int, lanes: int, warps: int, span: int, tensor: bool, wide: np.dtype) -> Layout:
    return Layout(rows, lanes, warps, span, wide.itemsize, tensor)


def tiles_of(gates: int) -> int:
    """Instructions of tensor cores across the gates of a stage."""
    return -(-gates // GATES)


def exchanged(stages: tuple[Stage, ...]) -> int:
    """Slots of a team: two of h, one of what a stage hands to the next."""
    return 1 + len(stages)

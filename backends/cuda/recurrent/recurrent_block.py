"""A recurrent layer through time. Strides in bytes; a direction's part of an operand is `…_direction` further.

Units are the elements of a state, `hidden` of them. Where an operand is absent, its address is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel
from graphc.lower.recurrent_cells import Stage

SLICES = 4  # neighbouring threads that share the products of a unit: each takes every fourth step of the sum
NEIGHBOURS = 8  # units of a warp: 32 bytes of each row of float32 weights
SHARED_BYTES = 48 << 10  # of a block's states: what a kernel may have without asking for more
STATES = (
    "h",
    "c",
    "z",
    "rh",
)  # streams of graphc/lower/recurrent_cells.py that live from one stage or step to the next

# The first four words are those of kernels that look at positions (verbs/index_block.py): indices: the lengths of sequences.
# A grid of [direction][group of rows of the batch]. reverse: of each direction, does it run from the end to the start?
# x: the input's projection [gate][unit] of a row of the batch at a time. r: packed weights [unit of the state][gate][unit],
# `pitch` bytes for a gate. b, p: biases [2][gate][unit] and peepholes [3][unit] of a direction. scratch: states of a block,
# scratch_bytes each
FIELDS = (
    "grid total indices wide groups seq batch hidden reverse*2 x x_direction x_row x_time r r_direction pitch b p "
    "h h_direction h_row c c_direction c_row y y_direction y_row y_time h_final h_final_direction h_final_row "
    "c_final c_final_direction c_final_row scratch scratch_bytes"
)
RECURRENT = Block(FIELDS)
STEP = Block(f"{FIELDS} unit_groups step")  # a grid of [direction][group of rows][8 units], in step `step`


@dataclass(frozen=True, eq=False)
class Recurrent(Kernel, name="recurrent"):
    """directions: the stages of each direction; one entry where all are alike. gates: of the cell. rows: of the batch, in a
    block. threads: of a block. shared: are the states in shared memory (else in scratch memory)? dtype: of the operands and
    results; the projection and the states are of what it is summed in."""

    block: ClassVar[Block] = RECURRENT
    directions: tuple[tuple[Stage, ...], ...]
    gates: int
    rows: int
    threads: int
    shared: bool
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class RecurrentStep(Kernel, name="recurrent_step"):
    """Stage `stage` of a step, of states in scratch memory."""

    block: ClassVar[Block] = STEP
    directions: tuple[tuple[Stage, ...], ...]
    stage: int
    gates: int
    rows: int
    threads: int
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class RecurrentEnd(Kernel, name="recurrent_end"):
    """What comes before the first step, or behind the last one."""

    block: ClassVar[Block] = RECURRENT
    last: bool
    stages: tuple[Stage, ...]
    rows: int
    threads: int
    dtype: str = "float32"


def slots_of(stages: tuple[Stage, ...]) -> dict[str, int]:
    """The place of each state that these stages have: a slot is [unit][row of the batch]. 'h' has two, 0 and 1: that of the
    last step, which products read while the next one is written."""
    used = {name for stage in stages for name, _ in stage.results}
    places, at = {}, 0
    for name in STATES:
        if name in used:
            places[name] = at
            at += 2 if name == "h" else 1
    return places


def slot_count(stages: tuple[Stage, ...]) -> int:
    return len(slots_of(stages)) + 1

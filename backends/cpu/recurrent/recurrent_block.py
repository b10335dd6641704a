"""recurrent/recurrent_driver.py and the block of recurrent/recurrent_micro.py. Strides in bytes.

States are [block of hidden units][row of the batch][unit of the block], a vector of lane_bytes each. A *double-buffer offset* is added on odd
steps: from the first to the second of two buffers that the states of even and odd steps live in (results have it the other way
round).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cpu.sizes import CACHE_LINE, lines
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

MAX_STAGES, MAX_STREAMS = 2, 12  # of a direction, of a stage
TILES = 8  # of rows, in a call of the micro-kernel

# what is added to the gates' products, operands and results of a panel
STREAM = Block("base by_panel by_row by_time by_double_buffer by_vector")
# span: bytes of a panel's units. w: weights, panel_bytes each
STAGE = Block(
    f"micro panels span w panel_bytes x x_double_buffer result result_double_buffer count streams*{MAX_STREAMS * STREAM.size}"
)
# clear: the words of a direction, then its states. mr: rows of a tile. lens: of sequences, of lens_item bytes, or 0.
# depth_blocks: `blocks` of the micro-kernel. y: 0 where the micro-kernel itself writes it
RECURRENT = Block(
    "directions shared spins scratch scratch_stride",
    record="clear clear_bytes seq batch hidden mr reverse lens lens_item lane_bytes double_buffer h c depth_blocks h_initial c_initial "
    "initial_row y y_time y_row h_final c_final h_final_row c_final_row stages "
    f"stage_records*{MAX_STAGES * STAGE.size}",
)

# words of a direction, at the start of the memory that is cleared (bytes). TAKEN: stages done, then the panels of this stage that
# are taken from the front and from the back, as 32 + 16 + 16 bits. FINISHED: panels of this stage that are done; who
# finishes the last one has the cache line that he writes next. STEPS: of the longest sequence. SLEEPERS: does anybody have to be woken?
TAKEN, FINISHED, STEPS, SLEEPERS, STATES_AT = 0, 8, 16, CACHE_LINE, 2 * CACHE_LINE

# of the micro-kernel. blocks: of UNROLL reduction steps; hidden units where it rounds the state to pairs of bfloat16. state_block: from one block of hidden units of the state to the next.
# room: for a tile's accumulators
CELL_STREAM = Block("base row vector")  # strides of a row, of a vector
CELL_STAGE = Block(f"blocks rows state_block room streams*{MAX_STREAMS * CELL_STREAM.size}")
# of a thread's scratch: the micro-kernel's block, room for all vector registers; then gathered streams
BLOCK_BYTES = lines(8 * CELL_STAGE.size)
HEAD_BYTES = BLOCK_BYTES + 32 * 64

# rows, others: numbers of each column's row (int64, -1: none) and of a second row that is added, or 0. length, stride: of a row.
# width: columns of a panel, the last may have fewer
PACK_COLUMNS = Block("source to rows others columns length stride width depth")


class RecurrentStart(Kernel, name="recurrent_start"):
    """Initial states."""

    block: ClassVar[Block] = RECURRENT


class Recurrent(Kernel, name="recurrent"):
    """All directions of a layer through time."""

    block: ClassVar[Block] = RECURRENT


class PackColumns(Kernel, name="pack_columns"):
    """Rows of a matrix as columns of panels."""

    block: ClassVar[Block] = PACK_COLUMNS


@dataclass(frozen=True, eq=False)
class CellStage(Kernel, name="cell_stage"):
    """A panel of a stage: see recurrent/recurrent_micro.py."""

    block: ClassVar[Block] = CELL_STAGE
    mr: int
    gates: int
    vectors: int
    operands: int
    results: tuple[Expr, ...]
    far: bool
    dot: str = ""

"""Three ways to run a recurrent layer through time, and a model of how long each takes.

grid    one grid, all of whose blocks run at once, each with its share of the weights in registers (persistent_block.py)
steps   a launch of the whole grid for each stage of each step (step_kernels.py)
blocks  a block for a direction and a few rows walks through time, and reads all weights in each step (recurrent_kernels.py)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphc.backends.cuda.codegen.figures import PARTS, REGISTERS, RESERVED, Card
from graphc.backends.cuda.product.costs import CUDA_CORES, LAUNCH
from graphc.backends.cuda.recurrent.persistent_block import (
    CHUNK,
    TENSOR_DEPTH,
    TENSOR_LANES,
    TENSOR_ROWS,
    VECTOR,
    WARP,
    WORDS,
    Layout,
    tiles_of,
)
from graphc.lower.recurrent_cells import Stage
from graphc.ops.recurrent import BoundCell
from graphc.sizes import for_speed

GRID, STEPS, BLOCKS = "grid", "steps", "blocks"
LANES, WARPS = (32, 16, 8), (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
MOST_REGISTERS = 255  # of a thread
SPARE = 104  # registers that do not hold weights: sums, words on their way, states, addresses
SPARE_OF_TWO = 112  # where a step has two stages
MOST_LAUNCHES = 4096  # of a layer step by step: each has a block of its own in the table

# Cycles. L2's latency: Luo et al. (see figures.py), about the same on A100; the others are estimates
LATENCY = 270
EXCHANGE = (
    3 * LATENCY
)  # a number is written to L2, and who waits for it reads it there: 1 and 1.5 times the way, and some
EQUATIONS = 250  # of a stage: a barrier, reads of shared memory, shuffles one after the other
ACTIVATION = 150  # of which a cell has one for each gate and one more, one after the other
PRODUCT = 33  # of an instruction of tensor cores whose sums the next one adds to
PORT = 64  # bytes in a cycle from L2 to a multiprocessor
BANKS = 128  # bytes of shared memory in a cycle


@dataclass(frozen=True)
class Form:
    """kind: see above. seconds: of the layer by the model, without the input's product; of_step: of one step. layout: of a grid."""

    kind: str
    seconds: float
    of_step: float
    layout: Layout | None = None

    def on(self, card: Card) -> str:
        """For a person."""
        return f"{self.of_step * 1e6:.2g} µs a step on {card} by the model"


@dataclass(frozen=True)
class Problem:
    """steps, batch, hidden, directions: of the layer; gates: of each stage of a step; item, wide: bytes of a weight, and of a number
    of the state; rows: of the batch, in a block of the other two forms. tensor: may tensor cores multiply?"""

    steps: int
    batch: int
    hidden: int
    directions: int
    gates: tuple[int, ...]
    item: int
    wide: int
    rows: tuple[int, int]
    tensor: bool = False

    @property
    def weights(self) -> int:
        """Bytes of one direction's."""
        return sum(self.gates) * self.hidden * self.hidden * self.item


def problem_of(
    c: BoundCell,
    cell: tuple[Stage, ...],
    dtype: np.dtype,
    wide: np.dtype,
    rows: tuple[int, int],
    tensor: bool,
) -> Problem:
    gates = tuple(len(stage.gates) for stage in cell)
    return Problem(c.seq, c.batch, c.hidden, len(c.reverse), gates, dtype.itemsize, wide.itemsize, rows, tensor)


@for_speed
def form_of(p: Problem, card: Card, multiprocessors: int, steps: bool) -> Form:
    """The fastest by the model. multiprocessors: on which blocks surely run at once. steps: is their number known?"""
    return min(forms_of(p, card, multiprocessors, steps), key=lambda f: f.seconds)


def forms_of(p: Problem, card: Card, multiprocessors: int, steps: bool) -> Iterator[Form]:
    yield _blocks(p, card)
    if steps and 0 < p.steps * len(p.gates) <= MOST_LAUNCHES:
        yield _steps(p, card)
    yield from (_grid(p, card, layout) for layout in layouts(p, card, multiprocessors))


# --- a grid -----------------------------------------------------------------------------------------------------------
def layouts(p: Problem, card: Card, multiprocessors: int) -> Iterator[Layout]:
    """Those that fit: a block to a multiprocessor."""
    if p.tensor:
        yield from _tensor_layouts(p, card, multiprocessors)
    vector = VECTOR // p.wide
    for lanes in LANES:
        span = -(-p.hidden // (lanes * vector))
        held = sum(p.gates) * span * vector * p.wide // 4
        for warps in WARPS:
            if held > registers_of(warps) - (SPARE if len(p.gates) == 1 else SPARE_OF_TWO):
                continue
            groups = multiprocessors // (p.directions * -(-p.hidden // (WARP * warps // lanes)))
            if groups == 0:
                continue
            rows = 1 << (-(-p.batch // groups) - 1).bit_length()
            layout = Layout(rows, lanes, warps, span, p.wide)
            if rows <= lanes and layout.shared + RESERVED <= card.shared:
                yield layout


def _tensor_layouts(p: Problem, card: Card, multiprocessors: int) -> Iterator[Layout]:
    span = -(-p.hidden // TENSOR_DEPTH)
    held = sum(map(tiles_of, p.gates)) * span * WORDS
    for warps in WARPS:
        layout = Layout(TENSOR_ROWS, TENSOR_LANES, warps, span, p.wide, True)
        blocks = p.directions * parts_of(layout, p.hidden) * -(-p.batch // layout.rows)
        fits = held <= registers_of(warps) - SPARE_OF_TWO and layout.shared + RESERVED <= card.shared
        if fits and blocks <= multiprocessors:
            yield layout


def registers_of(warps: int) -> int:
    """That a thread of a block of so many warps may have: each part of a multiprocessor gives them to its own."""
    return min(MOST_REGISTERS, REGISTERS // PARTS // (WARP * -(-warps // PARTS)) // 8 * 8)


def groups_of(layout: Layout, p: Problem, multiprocessors: int) -> int:
    """Groups of rows for which there are multiprocessors."""
    return multiprocessors // (p.directions * parts_of(layout, p.hidden))


def parts_of(layout: Layout, hidden: int) -> int:
    """Blocks of a team."""
    return -(-hidden // layout.units)


def _grid(p: Problem, card: Card, layout: Layout) -> Form:
    work = _tensor_work if layout.tensor else _work
    cycles = sum(EXCHANGE + layout.each * _equations(gates) + work(p, card, layout, gates) for gates in p.gates)
    cycles += len(p.gates) * layout.probes * LATENCY
    cycles += len(p.gates) * layout.rows * p.hidden * 2 * p.wide / PORT
    blocks = parts_of(layout, p.hidden) * p.directions * -(-p.batch // layout.rows)
    read = len(p.gates) * blocks * layout.rows * p.hidden * 2 * p.wide  # with tags
    of_step = cycles / card.clock + read / card.cache
    first = p.directions * p.weights / card.memory
    return Form(GRID, 2 * LAUNCH + first + p.steps * of_step, of_step, layout)


def _work(p: Problem, card: Card, layout: Layout, gates: int) -> float:
    """Cycles in which a block multiplies, for one stage of a step."""
    chunk, deep = min(layout.rows, CHUNK), layout.span * layout.vector
    chunks, turns = layout.rows // chunk, -(-layout.warps // PARTS)
    multiplied = turns * chunks * chunk * gates * deep * (p.wide // 4)
    loaded = layout.warps * chunks * chunk * layout.span * layout.lanes * VECTOR / BANKS
    levels = chunk - 1 + (layout.lanes // chunk).bit_length() - 1
    gathered = turns * chunks * gates * levels * 4 * (p.wide // 4)
    return max(multiplied, loaded) + gathered


def _tensor_work(p: Problem, card: Card, layout: Layout, gates: int) -> float:
    """The same of tensor cores: two products of 16 steps each, of the upper and the lower digits of the state."""
    products, turns = 4 * layout.span * tiles_of(gates), -(-layout.warps // PARTS)
    pace = 2 * TENSOR_ROWS * 8 * 16 * PARTS / (card.half_per_clock * card.mma)
    loaded = layout.warps * layout.span * 4 * WARP * VECTOR / BANKS
    return max(turns * products * pace, 2 * layout.span * PRODUCT, loaded)


def _equations(gates: int) -> int:
    """Cycles of a stage that no other thread shortens."""
    return EQUATIONS + ACTIVATION * (gates + 1)


# --- the others -------------------------------------------------------------------------------------------------------
def _steps(p: Problem, card: Card) -> Form:
    holders = p.directions * -(-p.batch // p.rows[1])
    read = max(holders * p.weights / card.cache, p.weights / (card.multiprocessors * PORT * card.clock))
    work = 2 * sum(p.gates) * p.directions * p.batch * p.hidden**2 / (card.float32 * CUDA_CORES)
    of_step = len(p.gates) * LAUNCH + max(read, work)
    return Form(STEPS, 2 * LAUNCH + p.steps * of_step, of_step)


def _blocks(p: Problem, card: Card) -> Form:
    blocks = p.directions * -(-p.batch // p.rows[0])
    rounds = -(-blocks // card.multiprocessors)
    read = max(p.weights / (PORT * card.clock), min(blocks, card.multiprocessors) * p.weights / card.cache)
    pace = card.float32 * CUDA_CORES / card.multiprocessors
    work = 2 * sum(p.gates) * p.rows[0] * p.hidden**2 / pace
    of_step = rounds * (max(read, work) + sum(map(_equations, p.gates)) / card.clock)
    return Form(BLOCKS, LAUNCH + p.steps * of_step, of_step)

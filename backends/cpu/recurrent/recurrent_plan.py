"""How a recurrent layer is cut: rows of the batch per register tile, hidden units per panel, panels shared between threads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA, PAIRS, Dot
from graphc.backends.cpu.tile.short_loop_micro import UNROLL
from graphc.backends.cpu.tile.tile_model import RECURRENT, cost
from graphc.graph import Node
from graphc.lower.recurrent_cells import Stage, stages
from graphc.ops.recurrent import BoundCell, bound_cell
from graphc.sizes import choose, for_speed, hint_of, is_size, most_of, need

ROWS = (1, 2, 3, 4, 5, 6, 8)  # of a tile: few kernels for batches of all sizes
MANY = 24  # a batch from which on the best panels do not change
SIMILAR = 1.05  # times the work of the best panels
NEXT_ROWS = 2  # rows to multiply a vector of weights with, until the level-2 cache has given the next
ONE_ROW = (
    24  # vectors of weights per step of one row: about the loads that prefetchers follow (tile/short_loop_micro.py)
)
NEAR = 1.25  # times level 2: of so many bytes of a thread's weights, most stay there from step to step
WORTH_SHARING = 4096  # multiply-adds of vectors per step above which its panels are shared between threads


@dataclass(frozen=True)
class RecurrentPlan:
    """A recurrent layer: the stages of each direction, `mr` rows of the batch per tile, `vectors` of hidden units per panel of
    each stage. work: multiply-adds of vectors in one step, of one thread. shared: the threads take the panels of a direction in turn. far: the level-2 cache can't hold a thread's weights. dot: the inner step of the state's product."""

    cell: BoundCell
    directions: tuple[tuple[Stage, ...], ...]
    vl: int
    mr: int
    vectors: tuple[int, ...]
    work: float
    shared: bool = False
    far: bool = False
    dot: Dot = FMA

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of the first direction; the others differ in their activations only."""
        return self.directions[0]

    @property
    def depth(self) -> int:
        """Reduction steps of a product with the state."""
        return -(-self.dot.steps(self.cell.hidden) // UNROLL) * UNROLL

    def panel_bytes(self, s: int) -> int:
        """Of the weights of a panel of stage s."""
        return self.depth * len(self.stages[s].gates) * self.dot.weights(self.span(s))

    def span(self, s: int) -> int:
        """Hidden units of a panel of stage s."""
        return self.vectors[s] * self.vl

    def panels(self, s: int) -> int:
        return -(-self.cell.hidden // self.span(s))

    @cached_property
    def row(self) -> int:
        """Elements of one row of states: whole panels of every stage."""
        return max(self.panels(s) * self.span(s) for s in range(len(self.stages)))

    def columns(self, s: int, d: int = 0) -> np.ndarray:
        """[panel][gate][unit]: for each column of stage s, the row of W and R (directions one after the other), or -1."""
        units = np.arange(self.panels(s) * self.span(s)).reshape(-1, 1, self.span(s))
        gates = np.array(self.stages[s].gates)[:, None] + d * self.cell.gates
        return np.where(units < self.cell.hidden, gates * self.cell.hidden + units, -1).reshape(-1)

    @cached_property
    def projection(self) -> np.ndarray:
        """The same for the columns of the input's projection: every stage of the first direction, then of the next."""
        every = range(len(self.directions))
        return np.concatenate([self.columns(s, d) for d in every for s in range(len(self.stages))])


def rounded_bytes(layer: RecurrentPlan) -> int:
    """Of a tile's state, rounded to pairs of bfloat16; 0 where the product takes it as it is."""
    if layer.dot is not PAIRS:
        return 0
    return most_of(layer.mr) * layer.dot.item * -(-layer.dot.steps(layer.cell.hidden) // layer.vl) * layer.vl


def plan_recurrent(node: Node, target: Target, threads: int, dot: Dot = FMA) -> RecurrentPlan:
    """The tile of least work for this batch and these threads."""
    c = bound_cell(node.call)
    peepholes = len(node.inputs) > 7 and node.inputs[7] is not None
    directions = tuple(stages(node.op.name, f, c.clip, node.attrs, peepholes) for f in c.activations)
    layer = _plan(c, directions, target, threads, dot)
    if is_size(c.batch):
        layer = _for_many(layer, c, directions, target, threads)
    return replace(layer, cell=c)


def _for_many(
    layer: RecurrentPlan, c: BoundCell, directions: tuple[tuple[Stage, ...], ...], target: Target, threads: int
) -> RecurrentPlan:
    """A plan for an example's batch, for many: weights are packed for its panels, the rows of a tile are looked up. Batches for
    which its panels take more than SIMILAR times the time of the best ones have another plan."""

    def plan(batch: int, vectors: tuple[int, ...] | None = None) -> RecurrentPlan:
        return _plan(replace(c, batch=batch), directions, target, threads, layer.dot, vectors)

    def serves(batch: int) -> bool:
        return plan(batch, layer.vectors).work <= SIMILAR * plan(batch).work

    least = most = min(hint_of(c.batch), MANY)
    while least > 1 and serves(least - 1):
        least -= 1
    while most < MANY and serves(most + 1):
        most += 1
    need(c.batch >= least)
    if most < MANY:
        need(c.batch <= most)
    mr = choose(lambda n: plan(n, layer.vectors).mr, c.batch)
    return replace(layer, mr=mr, shared=choose(lambda n: int(plan(n, layer.vectors).shared), c.batch))


@for_speed
@lru_cache(maxsize=4096)
def _plan(
    c: BoundCell,
    directions: tuple[tuple[Stage, ...], ...],
    target: Target,
    threads: int,
    dot: Dot,
    vectors: tuple[int, ...] | None = None,
) -> RecurrentPlan:
    """vectors: of hidden units per panel of each stage, where they are settled."""
    share = max(1, threads // len(directions))
    plans = []
    for mr in (n for n in ROWS if n <= c.batch):
        stages = enumerate(directions[0])
        panels = [_panel(c, target, mr, len(s.gates), share, dot, vectors[i] if vectors else None) for i, s in stages]
        fitting = [p for p in panels if p is not None]
        if len(fitting) == len(panels):
            plans.append((sum(cost for cost, _ in fitting), -mr, tuple(v for _, v in fitting)))
    work, mr, found = min(plans)
    layer = RecurrentPlan(c, directions, target.vl, -mr, found, work, dot=dot)
    several = max(layer.panels(s) for s in range(len(found))) > 1
    shared = threads > 1 and several and work >= WORTH_SHARING
    nbytes = dot.weights(layer.row) * layer.depth * sum(len(stage.gates) for stage in layer.stages)
    return replace(layer, shared=shared, far=nbytes > NEAR * target.l2 * (share if shared else 1))


def _panel(
    c: BoundCell, target: Target, mr: int, gates: int, share: int, dot: Dot, settled: int | None
) -> tuple[float, int] | None:
    """(cost, vectors of units per panel) of a stage with tiles of mr rows; None where they do not fit the registers. settled:
    the vectors, where they are.

    Cost: multiply-adds of vectors in one step, for one of `share` threads.
    """
    best = None
    most = max(1, (ONE_ROW if mr == 1 and share == 1 else 8) // gates)
    for vectors in range(1, most + 1) if settled is None else (settled,):
        if mr * gates * vectors > target.registers - 2:  # a weight and a broadcast besides the accumulators
            break
        panels = -(-c.hidden // (target.vl * vectors))
        step = cost(target, mr, gates * vectors, RECURRENT, NEXT_ROWS)
        total = -(-c.batch // mr) * -(-panels // share) * (step * dot.steps(c.hidden) + 40 * mr * vectors + 60)
        if best is None or total <= best[0]:
            best = total, vectors
    return best

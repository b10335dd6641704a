"""Which tile computes a product, and in how many parts: a model of how long each takes.

A multiprocessor computes its blocks one after the other, at the pace of what is slowest: tensor cores, reads of shared memory,
reads of L2, or copies that are on their way while it multiplies. The whole is no faster than memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.backends.cuda.codegen.figures import Card
from graphc.backends.cuda.product.tile import DEPTH, Tile, WarpTile
from graphc.sizes import largest

LAUNCH = 2e-6  # seconds from the end of a kernel to the work of the next
START = 1e-6  # of a wave: the first copies, and the ending
LATENCY = 0.5e-6  # of a copy
BANKS = 128  # bytes of shared memory in a cycle
WARPS = 8  # of a multiprocessor that keep its tensor cores busy
CUDA_CORES = 0.7  # of what the data sheet says: the rest are other instructions
LEAST = 4 * DEPTH  # steps of a part of a sum
SPLITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
FLOAT = 4  # bytes
GAIN = 0.05  # of the time, that steps are dealt to blocks for
FAR = 2.0  # times slower by the model: what is not measured


@dataclass(frozen=True)
class Problem:
    """batch products of m x k and k x n elements of `item` bytes; products: of tensor cores for one (3 for all digits of float32)."""

    m: int
    n: int
    k: int
    batch: int
    item: int
    products: int = 1

    @property
    def nbytes(self) -> int:
        return self.item * self.batch * (self.m * self.k + self.k * self.n + self.m * self.n)


@dataclass(frozen=True)
class Choice:
    """parts: of each sum, in blocks of their own. busy: seconds of the busiest multiprocessor. waves: how often the tiles fill
    the GPU. blocks: to which the steps of tiles are dealt evenly (Stream-K), 0 where each has a tile or a part of one."""

    tile: WarpTile
    parts: int
    seconds: float
    busy: float
    waves: float
    blocks: int = 0

    @property
    def name(self) -> str:
        """Tells it from other choices for the same problem."""
        return f"{self.tile!r}, {self.parts} parts, {self.blocks} blocks"

    def on(self, card: Card) -> str:
        """For a person."""
        return f"{self.seconds * 1e6:.1f} µs on {card} by the model, {self.waves:.2g} waves"


def best(card: Card, p: Problem, tiles: Sequence[WarpTile]) -> Choice:
    """The fastest by the model."""
    return ranked(card, p, tiles)[0]


def ranked(card: Card, p: Problem, tiles: Sequence[WarpTile], dealing: bool = False) -> list[Choice]:
    """The fastest first; of those that wait for memory, the one with the least to do. dealing: may steps be dealt to blocks? They
    are where that is faster by more than GAIN."""
    splits = [s for s in SPLITS if s == 1 or p.k >= s * LEAST]
    fit = [t for t in tiles if card.fits(t.shared(p.item))]
    found = [predicted(card, p, t, s) for t in fit for s in splits]
    if dealing:
        found += [c for t in fit for c in dealt(card, p, t)]
    return sorted(found, key=lambda c: (c.seconds * (1 + GAIN) if c.blocks else c.seconds, c.busy))


def beside(found: Sequence[Choice], others: bool, first: bool) -> list[Choice | None]:
    """What is worth a measurement: the model's choice, then the best of each other tile, then the rest, but what the model has much
    slower. None: other kernels, where there are `others`, or, `first`, they are the model's choice."""
    each = {c.tile: c for c in reversed(found)}.values()
    near = [c for c in found if c.seconds <= FAR * found[0].seconds]
    turns: list[Choice | None] = sorted(near, key=lambda c: c not in each)
    if others or first:
        turns.insert(0 if first else 1, None)
    return turns


def predicted(card: Card, p: Problem, tile: WarpTile, parts: int) -> Choice:
    steps = -(-p.k // (tile.depth * parts))
    depth = steps * tile.depth
    blocks = p.batch * -(-p.m // tile.m) * -(-p.n // tile.n) * parts
    share = -(-blocks // card.multiprocessors)  # blocks of the busiest multiprocessor
    at_once = min(tile.blocks, card.fits(tile.shared(p.item)))
    together = min(at_once, share)
    pace = min(1.0, together * tile.threads / 32 / WARPS)
    rate = card.rate(p.item, tile.group) / p.products / card.multiprocessors
    read = _read(tile, p)
    block = max(
        2 * tile.m * tile.n * depth / (rate * pace),
        read * depth * p.item / (BANKS * card.clock),
        (tile.m + tile.n) * depth * p.item / (card.cache / card.multiprocessors),
        steps * LATENCY / ((tile.stages - 1 - tile.group) * together),
    )
    waves = blocks / (card.multiprocessors * at_once)
    rounds = -(-share // at_once)
    busy = share * block + rounds * START
    seconds = LAUNCH + max(busy, p.nbytes / card.memory)
    if parts > 1:  # written, and read again
        seconds += LAUNCH + 2 * parts * p.batch * p.m * p.n * FLOAT / card.cache
    return Choice(tile, parts, seconds, busy, waves)


def _read(tile: WarpTile, p: Problem) -> int:
    """Elements of shared memory that a step of the sum reads, and those it writes that digits are made of."""
    if not tile.group:
        return (tile.m // tile.wm) * (tile.n // tile.wn) * (tile.wm + tile.wn)
    made = (1 + tile.digits) * (tile.m + tile.n) if p.item == 4 else 0
    return p.products * (tile.m + tile.m // 64 * tile.n) + made


def dealt(card: Card, p: Problem, tile: WarpTile) -> list[Choice]:
    """Stream-K (Osama et al., 2023): the steps of what is left when whole tiles fill the GPU, and of as many tiles more, are dealt
    evenly to as many blocks as fit at once; a second kernel adds the parts of tiles that blocks share."""
    steps, tiles, found = -(-p.k // tile.depth), p.batch * -(-p.m // tile.m) * -(-p.n // tile.n), []
    for together in range(1, min(tile.blocks, card.fits(tile.shared(p.item))) + 1):
        blocks = card.multiprocessors * together
        whole = whole_tiles(tiles, blocks)
        each = -(-(tiles - whole) * steps // blocks)
        cuts = sum(b * each < (tiles - whole) * steps and b * each % steps != 0 for b in range(1, blocks))
        if not cuts or each * tile.depth < LEAST:
            continue
        full = replace(p, m=tile.m * blocks, n=tile.n, k=tile.depth, batch=1)
        step = (predicted(card, full, tile, 1).busy - START) / together  # of a block, beside others
        busy = (whole // blocks * steps + each) * together * step + (-(-tiles // blocks) + 1) * START
        parts = 2 * cuts * tile.m * tile.n * FLOAT  # written, and read again
        seconds = LAUNCH + max(busy, p.nbytes / card.memory) + LAUNCH + 2 * parts / card.cache
        found.append(Choice(tile, 1, seconds, busy, tiles / blocks, blocks))
    return found


def whole_tiles(tiles: int, blocks: int) -> int:
    """That are not dealt: all but the last ones, which are as many as there are blocks, or up to twice as many."""
    return largest(tiles // blocks - 1, 0) * blocks


def copied(card: Card, nbytes: int) -> float:
    """Seconds of a copy of so many bytes."""
    return LAUNCH + START + 2 * nbytes / card.memory


def on_cuda_cores(card: Card, p: Problem, tile: Tile) -> float:
    """Seconds that a kernel of CUDA cores takes for float32."""
    blocks = p.batch * -(-p.m // tile.m) * -(-p.n // tile.n)
    share = -(-blocks // card.multiprocessors)
    block = 2 * tile.m * tile.n * p.k / (card.float32 * CUDA_CORES / card.multiprocessors)
    pace = min(1.0, share * tile.threads / 32 / WARPS)
    return LAUNCH + max(share * block / pace + START, p.nbytes / card.memory)

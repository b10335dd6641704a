"""Which tile computes attention on tensor cores: a model of how long each takes, as that of products (product/costs.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.backends.cuda.attention.attention_block import EXTRA, KeyTile
from graphc.backends.cuda.codegen.figures import PARTS, Card
from graphc.backends.cuda.product.costs import BANKS, FLOAT, LATENCY, LAUNCH, START, WARPS

POWERS = 16  # that a multiprocessor computes in a cycle, since sm_80
OTHERS = 10 / 128  # cycles of other instructions for each score: its maximum, its power's sum and rounding
BARE = 0.5  # of their time, that is not behind products of other warps: an estimate
ITEM = 2


@dataclass(frozen=True)
class Problem:
    """heads: of keys in all batch entries; rows: queries that share them; size, v_size: of a head."""

    heads: int
    rows: int
    keys: int
    size: int
    v_size: int

    @property
    def nbytes(self) -> int:
        return ITEM * self.heads * (self.rows + self.keys) * (self.size + self.v_size)


@dataclass(frozen=True)
class Choice:
    tile: KeyTile
    seconds: float
    waves: float

    def on(self, card: Card) -> str:
        """For a person."""
        return f"{self.seconds * 1e6:.1f} µs on {card} by the model, {self.waves:.2g} waves"


def best(card: Card, p: Problem, tiles: Sequence[tuple[KeyTile, int]]) -> Choice:
    """The fastest by the model. tiles: each with the parts of the keys that it would have."""
    return min((predicted(card, p, *t) for t in tiles), key=lambda c: c.seconds)


def predicted(card: Card, p: Problem, tile: KeyTile, splits: int) -> Choice:
    steps, width = -(-p.keys // (tile.keys * splits)), p.size + p.v_size
    blocks = p.heads * -(-p.rows // tile.rows) * splits
    share = -(-blocks // card.multiprocessors)  # blocks of the busiest multiprocessor
    together = min(tile.blocks, share)
    pace = min(1.0, together * tile.threads / 32 / WARPS)
    scores, warps = tile.rows * tile.keys, tile.down * tile.across
    read = tile.down * tile.keys * width + (0 if tile.kept else tile.across * tile.rows * p.size)
    products = max(2 * scores * width / (card.half / card.multiprocessors * pace), ITEM * read / (BANKS * card.clock))
    powers = scores * (1 / POWERS + OTHERS) / (card.clock * min(1.0, together * warps / PARTS))
    step = max(
        products + powers * BARE,
        ITEM * tile.keys * width / (card.cache / card.multiprocessors),
        LATENCY / ((tile.stages - 1) * together),
    )
    rounds = -(-share // tile.blocks)
    seconds = LAUNCH + max(share * steps * step + rounds * START, p.nbytes / card.memory)
    if splits > 1:  # written, and read again
        seconds += LAUNCH + 2 * splits * p.heads * p.rows * (p.v_size + EXTRA) * FLOAT / card.cache
    return Choice(tile, seconds, blocks / (card.multiprocessors * tile.blocks))

"""Register tiles: how many output pixels x channel vectors a micro-kernel holds."""

from __future__ import annotations

from functools import lru_cache

from graphc.backends.cpu.micro.tile import max_rows
from graphc.backends.cpu.target import Target

CACHED_BYTES = 850_000  # of the level-2 cache that rows, the weights in use and those that come may fill
STREAMED_BYTES = 500_000  # of a layer's weights, which are then fetched a panel ahead


@lru_cache(maxsize=4096)
def best_tile(target: Target, pixels: int, blocks: int) -> tuple[int, int]:
    """(MR, NV) for rows of `pixels` and `blocks` output-channel blocks."""
    best, most = (1, 1), 0.0
    for nv in (2, 4, 1, 3, 8, 6):
        if nv <= blocks:
            mr, score = best_rows(target, pixels, nv)
            tail = blocks / (-(-blocks // nv) * nv)  # a narrower tile takes what is left
            if score * tail**0.5 > most + 1e-9:
                best, most = (mr, nv), score * tail**0.5
    return best


@lru_cache(maxsize=4096)
def best_rows(target: Target, pixels: int, nv: int) -> tuple[int, float]:
    """(MR, efficiency) of the best tile with NV vectors, by a model of the inner loop.

    MR x NV multiply-adds load MR broadcasts and NV vectors; the last tile of a row overlaps the one before, so a row costs
    ceil(pixels / MR) tiles; few accumulators can't hide the latency of the multiply-add.
    """
    enough = 14 if target.registers == 32 else 8
    best, most = 1, 0.0
    for mr in range(1, min(max_rows(target, nv), pixels) + 1):
        fill = pixels / (-(-pixels // mr) * mr)
        work = mr * nv
        score = min(1.0, work / enough) ** 0.5 * fill * work / (mr + nv + 0.9 * work)
        if score > most + 1e-9:
            best, most = mr, score
    return best, most


def lines_ahead(lines: int, tiles: int, weights: int) -> int:
    """Cache lines of the next panel that a tile fetches with each run of steps, where `tiles` tiles use a panel of so many
    lines a run: all of them together fetch it once. 0 where the weights (bytes) stay in the caches anyway."""
    if weights < STREAMED_BYTES or tiles == 1 or tiles > lines:
        return 0
    return -(-lines // tiles)


def chunk_of(blocks: int, weights: int, rows: int) -> int:
    """How many of a layer's input blocks to take at a time, so that they stay in the cache with their weights. weights, rows:
    bytes of one block, of a tile's weights and of the rows that go by them."""
    chunks = -(-blocks * (2 * weights + rows) // CACHED_BYTES)
    return -(-blocks // chunks)

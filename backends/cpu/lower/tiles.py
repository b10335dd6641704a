"""Register tiles: how many output pixels x channel vectors a micro-kernel holds."""

from __future__ import annotations

from functools import lru_cache

from backends.cpu.micro.tile import max_rows
from backends.cpu.target import Target


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

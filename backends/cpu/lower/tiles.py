"""Register tiles: how many output pixels x channel vectors a micro-kernel holds."""

from __future__ import annotations

from functools import lru_cache

from backends.cpu.micro.tile import max_rows
from backends.cpu.target import Target


@lru_cache(maxsize=4096)
def best_tile(target: Target, pixels: int, blocks: int) -> tuple[int, int]:
    """(MR, NV) for rows of `pixels` and `blocks` output-channel blocks, by a model of the inner loop.

    A tile of MR x NV multiply-adds loads MR broadcasts and NV vectors; the last tile of a row overlaps the one before, so a
    row costs ceil(pixels / MR) tiles; few accumulators can't hide the latency of the multiply-add.
    """
    best, score = (1, 1), 0.0
    enough = 14 if target.registers == 32 else 8
    for nv in (2, 4, 1, 3, 8, 6):
        if nv > blocks:
            continue
        for mr in range(1, min(max_rows(target, nv), pixels) + 1):
            fill = pixels / (-(-pixels // mr) * mr)
            work = mr * nv
            latency = min(1.0, work / enough) ** 0.5
            loads = work / (mr + nv + 0.9 * work)
            tail = blocks / (-(-blocks // nv) * nv)  # a narrower tile takes what is left
            s = latency * fill * loads * tail**0.5
            if s > score + 1e-9:
                best, score = (mr, nv), s
    return best

"""How the tiles of a Winograd layer are grouped, and the register tiles that multiply a group."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from graphc.backends.cpu.conv.window import Window
from graphc.backends.cpu.costs import AGAIN, FROM_L2, FROM_L3, TRANSFORM, multiply
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.tile_micro import max_rows
from graphc.backends.cpu.tile.tile_model import WINOGRAD as LOOP
from graphc.backends.cpu.tile.tile_model import cost
from graphc.backends.cpu.tile.tiles import Costs, Cut, cut_into, highest_tile, kernels_of
from graphc.sizes import LOOKED_UP, choose_row, for_speed, hint_of, is_size, where
from graphc.types import MaybeNone

PANEL = 13 / 16  # of level 1 that a panel of weights may fill, to be there for the next rows
GROUP = 2 / 3  # of level 2 that a group may fill: weights go by, and some of it is what the last group left
LINE_ROWS = 7  # to multiply with a cache line of weights, until level 2 has given the next
MOST_TILES = 8  # of the highest register tile, in a group
MOST_GROUPS = 16  # more than there must be
ALONE = 1, 2, 3, 4, 8, 9, 16  # rows of register tiles without others: images of 2x2, 3x3 and 4x4 tiles are common
SEVERAL = 1.04  # times the cost where register tiles have several heights, measured at 16 tiles
HIGHEST_ALONE = 18  # rows of a register tile that is one vector wide: its weights serve no others
FAR = 4  # times the example's tiles, or as many fewer, is what an image of a plan for many usually has
# Numbers of tiles for which groups are planned in a plan for many: one that is less is grouped like the next of them. The last
# lies at least a group below LOOKED_UP
STEPS = tuple(dict.fromkeys(int(n) for n in np.geomspace(1, LOOKED_UP - MOST_TILES * HIGHEST_ALONE, 64)))


@dataclass(frozen=True)
class Grouping:
    """`count` tiles per group, in parts that threads share; register tiles, NV vectors wide, of a group and of the last one."""

    count: int
    parts: int
    rows: Cut
    rest: Cut
    nv: int


@dataclass(frozen=True)
class Groups:
    """What the step reads of a grouping: values, where the number of tiles stands for many.

    kernels: heights of the register tiles of each that may multiply; kernel: which of them does. rows, rest_rows: slots TILES
    of a group and of the last one; rest: its slot PIXELS.
    """

    kernels: tuple[tuple[int, ...], ...]
    kernel: int
    count: int
    parts: int
    rows: tuple[int, ...]
    rest: int
    rest_rows: tuple[int, ...]


def grouping(w: Window, m: int, target: Target, threads: int) -> Grouping:
    """Of a layer. The kernel's tiles follow from one image: another batch size needs no other kernel and no other packing."""
    tiles, sizes = _sizes(w, m, target, threads)
    one = plan_groups(target, tiles, *sizes)
    return plan_groups(target, w.n * tiles, *sizes, ((one.rows.heights, one.nv),))


def _sizes(w: Window, m: int, target: Target, threads: int) -> tuple[int, tuple[int, int, int, int]]:
    """Tiles of an image, and what else a grouping depends on."""
    tiles = -(-w.out[1] // m) * -(-w.out[2] // m)
    return tiles, (w.channels // target.vl, w.out_channels // target.vl, (m + 2) ** 2, threads)


def groups_of(w: Window, m: int, target: Target, threads: int) -> Groups:
    """Of a layer. Where the number of tiles stands for many, register tiles are as wide as in the example, for which the weights
    are packed; all else is looked up. But where only the batch is open, one image decides on the kernel, as always."""
    g = grouping(w, m, target, threads)
    tiles, sizes = _sizes(w, m, target, threads)
    total = w.n * tiles
    if not is_size(total):
        return Groups((g.rows.heights,), 0, g.count, g.parts, g.rows.words, g.rest.pixels, g.rest.words)
    first, last, heights = 1, LOOKED_UP, [g.rows.heights]
    if is_size(tiles):
        first, last = max(1, hint_of(tiles) // FAR), LOOKED_UP if is_size(w.n) else FAR * hint_of(total)
        heights = kernels_of(_highest(target, g.nv), first)
    steps = [n for n in STEPS if first <= n <= last] or [min(first, STEPS[-1])]
    plans = [plan_groups(target, n, *sizes, tuple((h, g.nv) for h in heights)) for n in steps]
    kernels = tuple(dict.fromkeys(p.rows.heights for p in plans))
    costs = _costs(target, g.nv, _far(target, sizes[0], g.nv))

    def words(n: int) -> tuple[int, ...]:
        p = plans[min(bisect_left(steps, n), len(plans) - 1)]
        h = p.rows.heights
        left = cut_into(max((n - 1) % p.count + 1, h[-1]), h, costs)
        return kernels.index(h), p.count, p.parts, *p.rows.words, left.pixels, *left.words

    # beyond LOOKED_UP all groups are alike but the last: a number with a last group like it stands for it
    whole = plans[-1].count
    alike = where(total - LOOKED_UP, LOOKED_UP + 1 - whole + (total - LOOKED_UP - 1) % whole, total)
    kernel, count, parts, *others = choose_row(words, alike)
    return Groups(kernels, kernel, count, parts, tuple(others[:3]), others[3], tuple(others[4:]))


def group_bytes(target: Target) -> int:
    """Of a group's tiles that level 2 holds."""
    return int(GROUP * target.l2)


@for_speed
@lru_cache(maxsize=4096)
def plan_groups(
    target: Target,
    tiles: int,
    blocks: int,
    out_blocks: int,
    points: int,
    threads: int,
    settled: tuple[tuple[tuple[int, ...], int], ...] = (),
) -> Grouping:
    """Few groups read the transformed weights few times, small ones keep their data in the cache. Parts let threads share a
    group: each transforms its input and reads some of the weights.

    settled: heights of the register tiles and NV among which to choose, where others are out of question.
    """
    vector = target.vector
    weights = points * blocks * out_blocks * target.vl * vector
    cached = group_bytes(target)
    best: Grouping | MaybeNone = None
    least = float("inf")
    for heights, nv in settled or _register_tiles(target, tiles, out_blocks):
        costs = _costs(target, nv, _far(target, blocks, nv))
        bias = 1.0 if len(heights) == 1 else SEVERAL
        for count in _group_sizes(tiles, heights):
            groups = -(-tiles // count)
            left = max(tiles - (groups - 1) * count, heights[-1])  # rows that do not exist are computed, not stored
            rows, rest = cut_into(count, heights, costs), cut_into(left, heights, costs)
            data = points * vector * count * (blocks + nv)
            spilled = data * (2 * FROM_L3 + out_blocks // nv * AGAIN) if data > cached else 0.0
            work = points * blocks * target.vl * out_blocks * ((groups - 1) * rows.cost + rest.cost) / groups
            item = weights * (FROM_L3 if weights > cached else FROM_L2) + spilled + work * multiply(target)
            transform = points * blocks * count * target.vl * TRANSFORM
            for parts in (p for p in (8, 4, 2, 1) if p == 1 or threads > 1 and p <= out_blocks // nv):
                rounds = -(-groups * parts // threads)
                seconds = rounds / parts * item + min(groups, -(-rounds // parts) + (parts > 1)) * transform
                if seconds * bias < least:
                    best, least = Grouping(count, parts, rows, rest, nv), seconds * bias
    return best


def _register_tiles(target: Target, tiles: int, out_blocks: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Heights and NV of kernels that could multiply so many tiles of an image. Few accumulators can't hide the latency of a
    multiply-add."""
    for nv in (n for n in (1, 2, 3, 4, 6) if out_blocks % n == 0):
        highest = _highest(target, nv)
        for heights in kernels_of(highest, tiles):
            if (heights[0] * nv >= 8 or heights[0] >= tiles) and heights[-1] <= tiles:
                yield heights, nv
        for h in ALONE if tiles < 2 * highest else ():
            if h < min(highest, tiles + 1) and (h * nv >= 8 or h == tiles):
                yield (h,), nv


def _highest(target: Target, nv: int) -> int:
    return min(HIGHEST_ALONE, max_rows(target, nv)) if nv == 1 else highest_tile(target, nv)


def _group_sizes(tiles: int, heights: tuple[int, ...]) -> set[int]:
    """Groups of whole register tiles, and groups that are alike."""
    most = min(tiles, MOST_TILES * heights[0])
    whole = {n for k in range(MOST_TILES + 1) for n in (k * heights[0], *(k * heights[0] + h for h in heights)) if n}
    fewest = -(-tiles // most)
    alike = {-(-tiles // n) for n in range(fewest, fewest + MOST_GROUPS)}
    return {max(n, heights[-1]) for n in whole | alike if n <= most} or {heights[-1]}


def _far(target: Target, blocks: int, nv: int) -> bool:
    """Do the weights of a register tile come from level 2?"""
    return blocks * target.vl * nv * target.vector > int(PANEL * target.l1)


@lru_cache
def _costs(target: Target, nv: int, far: bool) -> Costs:
    """Per vector of columns. far: weights come from level 2."""
    rows = LINE_ROWS if far and target.vector == CACHE_LINE else 0
    return 0.0, *(cost(target, mr, nv, LOOP, rows) / nv for mr in range(1, target.registers))

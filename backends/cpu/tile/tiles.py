"""Register tiles: how many output pixels x channel vectors a micro-kernel holds, and how a row is cut into them.

One kernel holds tiles of a few heights, and cuts a row of any width into counts of each, so that rows of all widths share
it. Only a row shorter than the highest tile may have a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import attrgetter

from graphc.backends.cpu.conv.conv_row_block import MAX_HEIGHTS
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.tile_micro import max_rows
from graphc.backends.cpu.tile.tile_model import CONV, CONV_AVX2, cost
from graphc.sizes import LOOKED_UP, choose, choose_row, for_speed, hint_of, is_size, need, where
from graphc.types import MaybeNone

# Parts of the level-2 cache:
CACHED = 13 / 16  # that rows, the weights in use and those that come may fill. The rest is for results and for bad luck
STREAMED = (
    0.48  # that a layer's weights fill before they are fetched a panel ahead: with more, two layers evict each other
)
PANEL = 0.315  # that the weights of a tile wider than two blocks may take: two panels, the one in use and the next, and rows
FETCHED = 0, 8, 12, 16, 24, 32, 48, 64, 96, 128  # cache lines: see `fetches`
HIGHEST = 14  # pixels of a tile: more gain nothing, and the widths of many networks are multiples of 7
LOW = 4  # pixels of a tile of which weights come just as fast as it multiplies them
SHORT = {
    7: (7, 6, 4),
    4: (6, 5, 4),
    2: (3, 2),
    1: (1,),
}  # heights of tiles by the least pixels of a row, where it is short
LONG = 64  # pixels, from which on the width of a row does not decide how weights are packed
EQUAL = 1 - 1e-9  # of the larger of two costs: from there on the smaller is equal but for rounding
WORTH = 0.95  # of the cost in tiles of several heights, below which a short row has a kernel of its own

Costs = tuple[float, ...]  # of a tile of each height, from 0 on


@dataclass(frozen=True)
class Cut:
    """A row as tiles: counts[i] tiles of heights[i] pixels, which may compute some pixels twice.

    Of a row that stands for many, counts are values; `kernels` are the heights of the kernels that rows may have, `kernel`, a
    value, says which, `heights_at` of how many pixels.
    """

    pixels: int
    heights: tuple[int, ...]
    counts: tuple[int, ...]
    cost: float
    kernels: tuple[tuple[int, ...], ...] = ()
    kernel: int = 0
    heights_at: Callable[[int], tuple[int, ...]] | MaybeNone = field(default=None, compare=False)

    @property
    def tiles(self) -> int:
        return sum(self.counts)

    @property
    def computed(self) -> int:
        """Pixels, of which some count twice: those that are computed twice."""
        return sum(h * n for h, n in zip(self.heights, self.counts))

    @property
    def exact(self) -> bool:
        """Is no pixel computed twice?"""
        return self.computed == self.pixels

    @property
    def words(self) -> tuple[int, ...]:
        """How many tiles there are of each of MAX_HEIGHTS heights, as micro-kernels read it."""
        return *self.counts, *(0,) * (MAX_HEIGHTS - len(self.counts))


def heights_of(highest: int) -> tuple[int, ...]:
    """Heights of a kernel's tiles: with about three and two quarters of the highest, little is computed twice, and rows of 16
    and of multiples of 7 come out even. Where the highest is low, because it is wide, lower ones would wait for their weights."""
    if highest <= LOW:
        return (highest,)
    return tuple(dict.fromkeys((highest, -(-3 * highest // 4), -(-4 * highest // 7))))


def kernels_of(highest: int, pixels: int) -> list[tuple[int, ...]]:
    """Heights of the kernels that rows of `pixels` may use: those of the highest tile, and for shorter rows of lower ones."""
    kernels = [heights_of(highest)]
    while pixels < highest and highest > 1:
        highest = -(-highest // 2)
        kernels.append(heights_of(highest))
    return kernels


@lru_cache(maxsize=1 << 16)
def cut_into(pixels: int, heights: tuple[int, ...], costs: Costs, exact: bool = False) -> Cut | MaybeNone:
    """The cheapest tiles of these heights, the highest first. exact: no pixel twice. None where there are none."""
    best, least = None, float("inf")
    for counts in _counts(pixels, heights):
        total = sum(n * costs[h] for h, n in zip(heights, counts))
        fits = all(h <= pixels or not n for h, n in zip(heights, counts))
        if total < EQUAL * least and fits and (not exact or sum(h * n for h, n in zip(heights, counts)) == pixels):
            best, least = counts, total
    return None if best is None else Cut(pixels, heights, best, least)


def _counts(left: int, heights: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Numbers of tiles that cover what is left: most of the first height, then of the next."""
    most = -(-max(left, 0) // heights[0])
    if len(heights) == 1:
        yield (most,)
        return
    for n in range(most, max(0, most - 3) - 1, -1):
        for others in _counts(left - n * heights[0], heights[1:]):
            yield n, *others


@lru_cache(maxsize=4096)
def best_cut(pixels: int, highest: int, costs: Costs) -> Cut:
    """In tiles of several heights up to the highest; a short row in lower ones, or in tiles that are all alike where that
    takes less than WORTH of the cost."""
    usual = [cut_into(pixels, heights, costs) for heights in kernels_of(highest, pixels)]
    return _preferred([c for c in usual if c], _alike(pixels, highest - 1, costs))


def _alike(pixels: int, highest: int, costs: Costs) -> list[Cut]:
    """The row in tiles of one height, for each that it may have."""
    return [cut_into(pixels, (h,), costs) for h in range(1, min(highest, pixels) + 1)]


def _preferred(usual: list[Cut], others: list[Cut]) -> Cut:
    best: Cut | MaybeNone = min(usual, key=attrgetter("cost"), default=None)
    other: Cut | MaybeNone = min(others, key=attrgetter("cost"), default=None)
    if best is None or (other is not None and other.cost < WORTH * best.cost):
        return other
    return best


# --- convolutions -----------------------------------------------------------------------------------------------------
def highest_tile(target: Target, nv: int) -> int:
    return min(HIGHEST, max_rows(target, nv))


@lru_cache
def tile_costs(target: Target, nv: int) -> Costs:
    """Of a tile of MR x NV for each MR."""
    loop = CONV_AVX2 if target.isa == "avx2" else CONV
    return 0.0, *(cost(target, mr, nv, loop) for mr in range(1, target.registers))


def cut_row(target: Target, pixels: int, nv: int, in_pieces: bool = False) -> Cut:
    """The best tiles with NV vectors for rows of `pixels`. Where that stands for many, of the usual heights, and which and how
    many of each is looked up; `heights` and `cost` are those of the example. in_pieces: rows are cut once more; then all have
    the same heights."""
    highest, costs = highest_tile(target, nv), tile_costs(target, nv)
    if not is_size(pixels):
        return best_cut(pixels, highest, costs)
    if in_pieces:
        return cut_many(pixels, heights_for(pixels, highest), costs)
    return _cut_many(pixels, partial(heights_for, highest=highest), costs)


def heights_for(pixels: int, highest: int) -> tuple[int, ...]:
    """Heights of the tiles of rows whose pixels stand for many: short rows have lower ones, of which the shortest are one."""
    if pixels >= highest:
        return heights_of(highest)
    fitting = (heights for least, heights in SHORT.items() if least < highest and pixels >= least)
    return tuple(h for h in next(fitting) if h < highest)


def cut_many(pixels: int, heights: tuple[int, ...], costs: Costs) -> Cut:
    """The cheapest tiles of these heights, none of which is above the row. A row longer than LOOKED_UP has the highest ones."""
    need(pixels >= heights[-1])
    return _cut_many(pixels, lambda n: heights, costs)


def _cut_many(pixels: int, heights: Callable[[int], tuple[int, ...]], costs: Costs, exact: bool = False) -> Cut:
    """heights: of the tiles of n pixels. exact: no pixel twice, where that can be and the row is not longer than LOOKED_UP."""
    kernels: dict[tuple[int, ...], int] = {}

    def words(n: int) -> tuple[int, ...]:
        h = heights(n)
        n = max(n, h[-1])  # shorter ones there are not
        cut = (exact and cut_into(n, h, costs, exact)) or cut_into(n, h, costs)
        return kernels.setdefault(h, len(kernels)), *cut.words

    kernel, *few = choose_row(words, pixels)
    highest = heights(LOOKED_UP)[0]
    counts = (where(pixels - LOOKED_UP, 0 if i else -(-pixels // highest), n) for i, n in enumerate(few))
    hint = hint_of(pixels)
    one = cut_into(hint, heights(hint), costs)
    return Cut(pixels, one.heights, tuple(counts), one.cost, tuple(kernels), kernel, heights)


@for_speed
@lru_cache(maxsize=4096)
def even_cut(target: Target, pixels: int, nv: int) -> Cut:
    """The best tiles of one height."""
    highest = highest_tile(target, nv)
    cuts = _alike(pixels, highest, tile_costs(target, nv))
    return _preferred([c for c in cuts if c.heights[0] in heights_of(highest)], cuts)


def efficiency(c: Cut, nv: int) -> float:
    """Multiply-adds that are wanted over the cost of all."""
    return c.pixels * nv / c.cost


@for_speed
@lru_cache(maxsize=4096)
def best_vectors(target: Target, pixels: int, blocks: int, even: bool = False) -> int:
    """NV for rows of `pixels` and `blocks` output-channel blocks: the same for all long rows, which so share weights. even:
    with tiles of one height."""
    best, most, cut = 1, 0.0, even_cut if even else cut_row
    for nv in (2, 4, 1, 3, 8, 6):
        if nv <= blocks:
            highest = highest_tile(target, nv)
            long = highest * nv / tile_costs(target, nv)[highest]
            score = long if pixels >= LONG else efficiency(cut(target, pixels, nv), nv)
            tail = blocks / (-(-blocks // nv) * nv)  # a narrower tile takes what is left
            if score * tail**0.5 > most + 1e-9:
                best, most = nv, score * tail**0.5
    return best


def without_overlap(target: Target, row: Cut, nv: int, in_pieces: bool = False) -> tuple[Cut | None, int]:
    """The row in tiles that do not overlap: so partial sums can lie in the result, and input blocks come some at a time. None
    where there are none. Where the row stands for many, they do not overlap if the value that comes with it is not 0. in_pieces:
    are rows cut once more? Then none of these."""
    costs = tile_costs(target, nv)
    if not is_size(row.pixels):
        exact = row if row.exact else cut_into(row.pixels, row.heights, costs, exact=True)
        return exact, int(exact is not None)
    if in_pieces:
        return None, 0
    at = row.heights_at
    is_exact = choose(lambda n: int(cut_into(n, at(n), costs, exact=True) is not None), row.pixels)
    if not is_size(is_exact) and not is_exact:
        return None, 0
    return _cut_many(row.pixels, at, costs, exact=True), where(row.pixels - LOOKED_UP, 0, is_exact)


def widest_tile(target: Target, weights: int) -> int:
    """The most output-channel blocks of a tile that takes all input blocks. weights: bytes of one output block's. Every row
    reads a tile's weights again: they should stay in the level-2 cache."""
    return max(2, int(PANEL * target.l2) // weights)


def cut_channels(
    target: Target, pixels: int, blocks: int, weights: int, even: bool = False
) -> Iterator[tuple[int, range]]:
    """Tile widths NV, as few as cover the output-channel blocks, and the blocks that tiles of each take. pixels: of a row.
    weights: bytes of one output block's. even: as in `best_vectors`."""
    if is_size(pixels):  # all rows but the shortest share weights
        pixels = hint_of(pixels) if pixels < LOW else max(hint_of(pixels), LONG)
    widest, first = widest_tile(target, weights), 0
    while first < blocks:
        nv = best_vectors(target, pixels, blocks - first, even)
        if nv > widest and without_overlap(target, cut_row(target, pixels, nv), nv)[0] is None:
            nv = best_vectors(target, pixels, min(widest, blocks - first), even)
        last = first + (blocks - first) // nv * nv
        yield nv, range(first, last)
        first = last


# --- what is fetched, and how much at a time ----------------------------------------------------------------------------
@for_speed
def lines_ahead(target: Target, lines: int, tiles: int, weights: int) -> int:
    """Cache lines of the next panel that a tile fetches with each run of steps, where `tiles` tiles use a panel of so many
    lines per run: all of them together fetch it once. 0 where the weights (bytes) stay in the caches anyway."""
    if weights < int(STREAMED * target.l2) or tiles == 1 or tiles > lines:
        return 0
    return -(-lines // tiles)


def fetches(lines: int) -> int:
    """Cache lines that a kernel fetches with each run of steps, to fetch so many more each time: of few kinds, so that it serves
    many widths. Those behind are asked for again, which costs little while they are few."""
    return next((n for n in FETCHED if n >= lines), lines)


@for_speed
def chunk_of(target: Target, blocks: int, weights: int, rows: int) -> int:
    """How many of a layer's input blocks to take at a time, so that they stay in the cache with their weights. weights, rows:
    bytes of one block, of a tile's weights and of the rows that go by them."""
    chunks = -(-blocks * (2 * weights + rows) // int(CACHED * target.l2))
    return -(-blocks // chunks)

"""Steps along an ordered axis: extremes, running sums and products, the k largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.verbs.ordered_block import (
    EXTREME,
    MERGE_RUNS,
    SCAN,
    SORT_TILE,
    Extreme,
    MergeRuns,
    ScanColumns,
    ScanTiles,
    SortTile,
)
from graphc.backends.cuda.verbs.passes import EACH, column_width, power_of_two
from graphc.lower.kernel import Variants
from graphc.lower.storage import Buffer, Ref
from graphc.lower.verbs import Around
from graphc.report import StepInfo
from graphc.sizes import choose, is_size, smallest, where

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

TILES = (64, 2048)  # elements that one block sorts
ITEM = 16  # bytes: key and place
MANY = 1 << 13  # axes, of which each has enough of a thread of its own for scans
SHORT = 32  # axes that are no longer have, too


def extreme(
    lo: CudaLowering, largest: bool, last: bool, dtype: np.dtype, x: Ref, shape: Around, y: Ref, info: StepInfo
) -> None:
    outer, size, inner = shape
    total = outer * inner
    if inner == 1:
        width = choose(lambda n: THREADS // min(THREADS, power_of_two(-(-n // EACH))), size)
    else:
        _, width = column_width(total, size, inner)
    args = EXTREME(grid=-(-total // width), total=total, x=x, y=y, size=size, inner=inner, width=width)
    lo.emit(Extreme(dtype.name, largest, last), args, info, writes=[y])


def scan(
    lo: CudaLowering,
    combine: str,
    exclusive: bool,
    reverse: bool,
    dtype: np.dtype,
    x: Ref,
    shape: Around,
    y: Ref,
    info: StepInfo,
) -> None:
    """Backwards with negative steps from the end of the axis."""
    outer, size, inner = shape
    total, row = outer * inner, inner * dtype.itemsize
    each = where(total - MANY + 1, 1, where(SHORT - size + 1, 1, 0))
    args = SCAN(
        grid=where(each, -(-total // THREADS), total), total=total, x=x, y=y, size=size, inner=inner,
        first=(size - 1) * row if reverse else 0, step=-row if reverse else row,
    )  # fmt: skip
    kernels = [kind(dtype.name, combine, exclusive) for kind in (ScanTiles, ScanColumns)]
    lo.emit(Variants(each, kernels) if is_size(each) else kernels[each], args, info, writes=[y])


def top_k(
    lo: CudaLowering,
    largest: bool,
    dtype: np.dtype,
    x: Ref,
    shape: Around,
    k: int,
    y: Ref,
    places: Ref,
    name: str,
    info: StepInfo,
) -> None:
    """Runs of one tile each, sorted; then two runs become one until there is one. A run keeps k items at most."""
    outer, size, inner = shape
    tile = next((t for t in TILES if size <= t), TILES[-1])
    axes, runs, kept = outer * inner, -(-size // tile), smallest(k, tile)
    # of a size that stands for many, `choose` tells no more than 512 numbers apart
    width = choose(power_of_two, size) if tile == TILES[0] else smallest(tile, 4 * choose(power_of_two, -(-size // 4)))
    to = _runs(name, axes * runs * kept) if runs > 1 else None
    args = SORT_TILE(
        grid=axes * runs, x=x, size=size, inner=inner, tiles=runs, width=width, kept=kept, to=to or 0,
        values=0 if to else y, places=0 if to else places,
    )  # fmt: skip
    lo.emit(SortTile(dtype.name, largest, tile, to is None), args, info, writes=[to] if to else [y, places])
    while to is not None:
        source, length, pairs, kept = to, kept, -(-runs // 2), smallest(k, 2 * kept)
        to = _runs(name, axes * pairs * kept) if pairs > 1 else None
        total = axes * pairs * 2 * length
        args = MERGE_RUNS(
            grid=-(-total // THREADS), total=total, x=x, size=size, inner=inner, source=source, runs=runs, length=length,
            pairs=pairs, kept=kept, to=to or 0, values=0 if to else y, places=0 if to else places,
        )  # fmt: skip
        lo.emit(MergeRuns(dtype.itemsize, to is None), args, info, nbytes=0, writes=[to] if to else [y, places])
        runs = pairs


def _runs(name: str, items: int) -> Ref:
    return Ref(Buffer(f"{name}/runs", ITEM * items))

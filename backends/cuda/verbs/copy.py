"""Copies: between strided operands, and through tables of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from graphc.backends.cuda.codegen.widths import widest
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.verbs.copy_block import (
    AROUND,
    COPY_DIMS,
    COPY_STRIDED,
    COPY_TABLES,
    COPY_TILES,
    CopyStrided,
    CopyTables,
    CopyTiles,
    side_of,
    word_of,
)
from graphc.lower.limits import TABLE_AXES
from graphc.lower.storage import Ref
from graphc.lower.verbs import Table
from graphc.report import StepInfo
from graphc.sizes import for_speed, is_size

SECTOR = 32  # bytes that memory gives at a time: of shorter rows, neighbouring threads use them well enough as they are

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering


def copy_strided(
    lo: CudaLowering, x: Ref, xs: list[int], y: Ref, ys: list[int], dims: list[int], item: int, info: StepInfo
) -> None:
    if len(dims) > COPY_DIMS:  # one step for each index of the outermost loop
        for i in range(dims[0]):
            copy_strided(lo, x + i * xs[0], xs[1:], y + i * ys[0], ys[1:], dims[1:], item, info)
        return
    if xs[-1] == ys[-1] == item:  # rows without gaps: as many bytes at a time as both sides allow
        row = dims[-1] * item
        item = widest([x, y], row, *xs[:-1], *ys[:-1])
        dims, xs, ys = [*dims[:-1], row // item], [*xs[:-1], item], [*ys[:-1], item]
        if len(dims) > 1 and not is_size(item) and not is_size(dims[-1]) and dims[-1] == 1:
            dims, xs, ys = dims[:-1], xs[:-1], ys[:-1]
    if not is_size(item) and (turned := _turned(dims, xs, ys, item)):
        _copy_tiles(lo, x, xs, y, ys, dims, item, turned, info)
        return
    total, pad = prod(dims), COPY_DIMS - len(dims)
    args = COPY_STRIDED(
        grid=-(-total // THREADS), total=total, x=x, y=y, dims=[*dims[::-1], *[1] * pad],
        x_strides=[*xs[::-1], *[0] * pad], y_strides=[*ys[::-1], *[0] * pad],
    )  # fmt: skip
    lo.emit(CopyStrided(item, len(dims)), args, info, writes=[y])


def _turned(dims: list[int], xs: list[int], ys: list[int], item: int) -> tuple[int, int] | None:
    """Which loop walks neighbours of x, and which neighbours of y, where these are two that are worth tiles."""
    of_x, of_y = ([i for i, s in enumerate(strides) if not is_size(s) and s == item] for strides in (xs, ys))
    for s in of_x:
        for t in of_y:
            if s != t and _are_long(dims[s] * item, dims[t] * item):
                return s, t
    return None


@for_speed
def _are_long(s: int, t: int) -> bool:
    return min(s, t) >= SECTOR


def _copy_tiles(
    lo: CudaLowering, x: Ref, xs: list[int], y: Ref, ys: list[int], dims: list[int], item: int, turned: tuple[int, int],
    info: StepInfo,
) -> None:  # fmt: skip
    s, t = turned
    around = [i for i in range(len(dims)) if i not in turned][::-1]
    pad, side, word = AROUND - len(around), side_of(item), word_of(item)
    tiles_s, tiles_t = -(-dims[s] // side), -(-dims[t] // side)
    args = COPY_TILES(
        grid=tiles_s * tiles_t * prod(dims[i] for i in around), tiles_s=tiles_s, tiles_t=tiles_t, s=dims[s], t=dims[t],
        x=x, y=y, x_line=xs[t], y_line=ys[s], dims=[*(dims[i] for i in around), *[1] * pad],
        x_strides=[*(xs[i] for i in around), *[0] * pad], y_strides=[*(ys[i] for i in around), *[0] * pad],
    )  # fmt: skip
    reads = widest([x], item * dims[s], *(n for i, n in enumerate(xs) if i != s), most=word)
    writes = widest([y], item * dims[t], *(n for i, n in enumerate(ys) if i != t), most=word)
    info = replace(info, kernel="copy_tiles", algorithm=info.algorithm or f"tiles of {side}x{side}")
    lo.emit(CopyTiles(item, reads, writes, len(around)), args, info, writes=[y])


def copy_by_table(
    lo: CudaLowering, x: Ref, y: Ref, fill: Ref, item: int, tables: Sequence[Table], info: StepInfo
) -> None:
    total, pad = prod(t.count for t in tables), TABLE_AXES + 1 - len(tables)
    args = COPY_TABLES(
        grid=-(-total // THREADS), total=total, x=x, y=y, fill=fill, dims=[*(t.count for t in tables[::-1]), *[1] * pad],
        tables=[*(t.ref for t in tables[::-1]), *[0] * pad],
    )  # fmt: skip
    lo.emit(CopyTables(item, len(tables)), args, info, writes=[y])

"""Copies: strided, transposed in tiles, and through tables of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from graphc.backends.cpu.sizes import COPY_DIMS, TABLE_DIMS
from graphc.backends.cpu.verbs.copy_block import (
    COPY_STRIDED,
    TRANSPOSE_TILES,
    CopyStrided,
    TransposePanel,
    TransposeTiles,
)
from graphc.backends.cpu.verbs.tables_block import COPY_TABLES, CopyTables
from graphc.lower.storage import Ref
from graphc.lower.verbs import Table
from graphc.report import StepInfo
from graphc.sizes import for_speed, is_size

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering

SHORT = 8  # elements of a loop that is not worth to be the innermost
FEW = 4  # elements whose copy costs more than a table of them


def copy_strided(
    lo: CpuLowering, x: Ref, xs: list[int], y: Ref, ys: list[int], dims: list[int], item: int, info: StepInfo
) -> None:
    if len(dims) > COPY_DIMS + 1:  # one step for each index of the outermost dim
        for i in range(dims[0]):
            lo.copy(x + i * xs[0], xs[1:], y + i * ys[0], ys[1:], dims[1:], item, info)
        return
    at = _transposed(lo, dims, xs, ys, item)
    if at is not None:
        dims, xs, ys = (_moved(values, at) for values in (dims, xs, ys))
        _emit_tiles(lo, x, y, dims, xs, ys, item, info)
        return
    at = _longest(dims, xs, ys)
    dims, xs, ys = (_moved(values, at, 0) for values in (dims, xs, ys))
    pad = [0] * (COPY_DIMS - len(dims) + 1)
    args = COPY_STRIDED(
        x=x, y=y, item=item, length=dims[-1], x_step=xs[-1], y_step=ys[-1], dims=dims[:-1][::-1] + [1] * len(pad),
        x_strides=xs[:-1][::-1] + pad, y_strides=ys[:-1][::-1] + pad,
    )  # fmt: skip
    lo.emit(CopyStrided(), args, info, writes=[y])


def _moved(values: list[int], at: int, before: int = 1) -> list[int]:
    """One loop moved inwards: innermost but for `before` others."""
    rest = values[:at] + values[at + 1 :]
    return [*rest[: len(rest) - before], values[at], *rest[len(rest) - before :]]


@for_speed
def _longest(dims: list[int], xs: list[int], ys: list[int]) -> int:
    """The loop to run innermost: the last, unless it is short and another has more elements, closest in memory."""
    last = len(dims) - 1
    long = [i for i, d in enumerate(dims) if d >= SHORT]
    return min(long, key=lambda i: abs(xs[i]) + abs(ys[i])) if dims[last] < SHORT and long else last


def _transposed(lo: CpuLowering, dims: list[int], xs: list[int], ys: list[int], item: int) -> int | None:
    """The loop along which x is contiguous where y is along the last, if both are long enough for tiles."""
    tile = _tile(lo, item)
    if item not in (4, 8) or ys[-1] != item or xs[-1] == item or len(dims) > COPY_DIMS or dims[-1] < tile:
        return None
    return next((i for i, d in enumerate(dims[:-1]) if not is_size(xs[i]) and xs[i] == item and d >= tile), None)


def _tile(lo: CpuLowering, item: int) -> int:
    return lo.target.vector // item


def _emit_tiles(
    lo: CpuLowering, x: Ref, y: Ref, dims: list[int], xs: list[int], ys: list[int], item: int, info: StepInfo
) -> None:
    """The last two loops: x runs along the first of them, y along the second."""
    pad = [0] * (COPY_DIMS - len(dims) + 1)
    *outer, columns, rows = dims
    args = TRANSPOSE_TILES(
        x=x, y=y, micro=TransposePanel(_tile(lo, item), item), tile=_tile(lo, item), item=item, rows=rows,
        columns=columns, x_row=xs[-1], y_column=ys[-2], dims=[*outer[::-1], *(1 for _ in pad), 1],
        x_strides=[*xs[:-2][::-1], *pad, 0], y_strides=[*ys[:-2][::-1], *pad, 0],
    )  # fmt: skip
    lo.emit(TransposeTiles(), args, replace(info, kernel="transpose_tiles"), writes=[y])


def copy_by_table(
    lo: CpuLowering, x: Ref, y: Ref, fill: Ref, item: int, tables: Sequence[Table], info: StepInfo
) -> None:
    *outer, row = tables
    pad = TABLE_DIMS - len(outer)
    run, end = row.run
    if not is_size(end - run) and end - run <= FEW:
        run, end = 0, 0
    args = COPY_TABLES(
        x=x, y=y, fill=fill, item=item, n=row.count, table=row.ref, run=run, run_end=end,
        dims=[*(t.count for t in outer[::-1]), *[1] * pad], tables=[*(t.ref for t in outer[::-1]), *[0] * pad],
    )  # fmt: skip
    lo.emit(CopyTables(), args, info, writes=[y])

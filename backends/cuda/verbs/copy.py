"""Copies: between strided operands, and through tables of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from graphc.backends.cuda.codegen.widths import widest
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.verbs.copy_block import COPY_DIMS, COPY_STRIDED, COPY_TABLES, CopyStrided, CopyTables
from graphc.lower.limits import TABLE_AXES
from graphc.lower.storage import Ref
from graphc.lower.verbs import Table
from graphc.report import StepInfo

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
    total, pad = prod(dims), COPY_DIMS - len(dims)
    args = COPY_STRIDED(
        grid=-(-total // THREADS), total=total, x=x, y=y, dims=[*dims[::-1], *[1] * pad],
        x_strides=[*xs[::-1], *[0] * pad], y_strides=[*ys[::-1], *[0] * pad],
    )  # fmt: skip
    lo.emit(CopyStrided(item, len(dims)), args, info, writes=[y])


def copy_by_table(
    lo: CudaLowering, x: Ref, y: Ref, fill: Ref, item: int, tables: Sequence[Table], info: StepInfo
) -> None:
    total, pad = prod(t.count for t in tables), TABLE_AXES + 1 - len(tables)
    args = COPY_TABLES(
        grid=-(-total // THREADS), total=total, x=x, y=y, fill=fill, dims=[*(t.count for t in tables[::-1]), *[1] * pad],
        tables=[*(t.ref for t in tables[::-1]), *[0] * pad],
    )  # fmt: skip
    lo.emit(CopyTables(item, len(tables)), args, info, writes=[y])

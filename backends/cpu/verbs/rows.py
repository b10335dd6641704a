"""Elementwise steps: one `map_row` kernel for the innermost loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from graphc.backends.cpu.sizes import ROW_DIMS
from graphc.backends.cpu.verbs.rows_block import MAP_ROWS, MapRow, MapRows
from graphc.expr import Expr
from graphc.lower.verbs import Walk
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering

CHUNK = 4096  # elements of one call: small enough to share a row between threads, large enough to hide the call


def map_rows(
    lo: CpuLowering, expression: Expr, dims: list[int], walks: Sequence[Walk], unit: int, name: str, info: StepInfo
) -> None:
    if len(dims) - 1 > ROW_DIMS:  # a step for each element of the outermost dim
        part = replace(info, flops=info.flops // dims[0], nbytes=info.nbytes // dims[0])
        for i in range(dims[0]):
            inner = [replace(w, ref=w.ref + i * w.strides[0], strides=w.strides[1:]) for w in walks]
            map_rows(lo, expression, dims[1:], inner, unit, name, part)
        return
    kinds = ""
    records = []
    for w in walks:
        kind = "v" if w.strides[-1] or dims[-1] * unit == 1 else "s"
        if kind == "s" and unit > 1 and w.kind == "v":
            kind = "v" if dims[-1] == 1 else "c"
        kinds += kind
        along = w.dtype.itemsize if kind == "v" else 0
        strides = w.strides[:-1][::-1] + [0] * (ROW_DIMS - len(dims) + 1)
        records.append({"ref": w.ref, "along": along, "strides": strides})
    micro = MapRow(expression=expression, kinds=kinds[1:], dtypes=tuple(w.dtype.name for w in walks[1:]))
    outer = dims[:-1][::-1] + [1] * (ROW_DIMS - len(dims) + 1)
    scratch, stride = lo.scratch(name, 8 * len(walks))
    args = MAP_ROWS(
        micro=micro, operands=len(walks), length=dims[-1] * unit, chunk=CHUNK, scratch=scratch, stride=stride, dims=outer,
        records=records,
    )  # fmt: skip
    lo.emit(MapRows(), args, info, writes=[walks[0].ref])

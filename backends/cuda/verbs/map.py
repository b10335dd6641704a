"""Elementwise groups: an expression over loops."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.verbs.map_block import MAP, MOST_DIMS, MapElements
from graphc.expr import Expr
from graphc.lower.verbs import Walk
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering


def emit_map(
    lo: CudaLowering, expression: Expr, dims: list[int], walks: Sequence[Walk], unit: int, info: StepInfo
) -> None:
    assert unit == 1  # blocks of channels are for backends that ask for them
    if len(dims) > MOST_DIMS:  # one step for each index of the outermost loop
        for i in range(dims[0]):
            inner = [Walk(w.ref + i * w.strides[0], w.dtype, w.strides[1:]) for w in walks]
            emit_map(lo, expression, dims[1:], inner, unit, info)
        return
    total, pad = prod(dims), MOST_DIMS - len(dims)
    args = MAP(
        grid=-(-total // THREADS), total=total, dims=[*dims[::-1], *[1] * pad],
        records=[{"ref": w.ref, "strides": [*w.strides[::-1], *[0] * pad]} for w in walks],
    )  # fmt: skip
    kernel = MapElements(expression, tuple(w.dtype.name for w in walks), len(dims))
    lo.emit(kernel, args, info, writes=[walks[0].ref])

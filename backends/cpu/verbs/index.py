"""Steps that read or write at positions which come from data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import expr as e
from graphc.backends.cpu.sizes import padded
from graphc.backends.cpu.verbs.index_block import GATHER, REVERSE_SEQUENCE, SCATTER, Gather, ReverseSequence, Scatter
from graphc.backends.cpu.verbs.rows_block import MapRow
from graphc.expr import Expr
from graphc.lower.checks import Check
from graphc.lower.kernel import Kernel
from graphc.lower.limits import INDEX_AXES, INDEX_DIMS
from graphc.lower.storage import Ref, Storage
from graphc.lower.strides import collapse
from graphc.lower.verbs import Lookup
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering

WORD = 8  # bytes that one instruction moves, at most


def _lookup(k: Lookup) -> dict[str, Any]:
    """The fields of an argument block that these drivers share."""
    dims, (index_strides, data_strides) = collapse(list(k.dims), [list(k.index_strides), list(k.data_strides)])
    if len(dims) > INDEX_DIMS or len(k.axes) > INDEX_AXES:
        raise AssertionError(f"positions over {len(dims)} loops, {len(k.axes)} axes")
    pad = [0] * (INDEX_DIMS - len(dims))
    return {
        "indices": k.index.ref,
        "wide": _is_wide(k.index),
        "negative": k.negative,
        "axis_count": len(k.axes),
        "count": k.count,
        "dims": [*dims[::-1], *(1 for _ in pad)],
        "index_strides": index_strides[::-1] + pad,
        "data_strides": data_strides[::-1] + pad,
        "axes": padded([word for axis in k.axes for word in axis], 2 * INDEX_AXES),
    }


def _is_wide(positions: Storage) -> bool:
    return positions.type.dtype.itemsize == 8


def gather(lo: CpuLowering, lookup: Lookup, x: Ref, y: Ref, block: int, check: Check, info: StepInfo) -> None:
    lo.emit(Gather(), GATHER(**_lookup(lookup), x=x, y=y, block=block), info, check=check, writes=[y])


def _write(dtype: np.dtype, reduction: str) -> Kernel:
    """What an update (operand 1) does with an element (operand 0)."""
    old, new = e.arg(0, dtype), e.arg(1, dtype)
    written = new if reduction == "none" else Expr(reduction, (old, new), dtype)
    return MapRow(expression=written, kinds="vv", dtypes=(dtype.name, dtype.name))


def scatter(
    lo: CpuLowering,
    lookup: Lookup,
    x: Ref | None,
    y: Ref,
    total: int,
    updates: Storage,
    block: int,
    reduction: str,
    check: Check,
    name: str,
    info: StepInfo,
) -> None:
    dtype = updates.type.dtype
    if reduction == "none":  # bytes, as words
        item = min(dtype.itemsize, WORD)
        words = dtype.itemsize // item
        dtype, total, block = np.dtype(f"u{item}"), total * words, block * words
    scratch, stride = lo.scratch(name, 8 * 3)  # result and operands of the micro-kernel
    args = SCATTER(
        **_lookup(lookup), x=x or 0, y=y, updates=updates.ref, total=total, block=max(block, 1), item=dtype.itemsize,
        micro=_write(dtype, reduction), scratch=scratch, stride=stride,
    )  # fmt: skip
    lo.emit(Scatter(), args, info, check=check, writes=[y])


def reverse(
    lo: CpuLowering,
    x: Ref,
    y: Ref,
    lengths: Storage,
    batch: tuple[int, int],
    time: tuple[int, int],
    block: int,
    check: Check,
    info: StepInfo,
) -> None:
    args = REVERSE_SEQUENCE(
        x=x, y=y, lengths=lengths.ref, wide=_is_wide(lengths), batch=batch[0], time=time[0], block=block,
        batch_stride=batch[1], time_stride=time[1],
    )  # fmt: skip
    lo.emit(ReverseSequence(), args, info, check=check, writes=[y])

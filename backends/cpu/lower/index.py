"""Steps that read or write at positions which come from data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc import expr as e
from graphc.expr import Expr
from graphc.lower.kernel import Kernel
from graphc.lower.limits import INDEX_AXES, INDEX_DIMS
from graphc.lower.storage import Ref, Storage
from graphc.lower.strides import collapse
from graphc.lower.verbs import Check, Lookup
from graphc.report import StepInfo

if TYPE_CHECKING:
    import numpy as np

    from graphc.backends.cpu.lower.lowering import CpuLowering


def _lookup(k: Lookup) -> list[int | Ref]:
    """The part of the argument block that these drivers share."""
    dims, (index_strides, data_strides) = collapse(list(k.dims), [list(k.index_strides), list(k.data_strides)])
    if len(dims) > INDEX_DIMS or len(k.axes) > INDEX_AXES:
        raise AssertionError(f"positions over {len(dims)} loops, {len(k.axes)} axes")
    pad = [0] * (INDEX_DIMS - len(dims))
    pairs = [word for axis in k.axes for word in axis] + [0] * (2 * (INDEX_AXES - len(k.axes)))
    loops = [*dims[::-1], *(1 for _ in pad), *index_strides[::-1], *pad, *data_strides[::-1], *pad]
    return [k.index.ref, k.index.type.dtype.itemsize == 8, k.negative, len(k.axes), k.count, *loops, *pairs]


def gather(lo: CpuLowering, lookup: Lookup, x: Ref, y: Ref, block: int, check: Check, info: StepInfo) -> None:
    lo.emit(Kernel("gather"), [*_lookup(lookup), x, y, block], info, check=check)


def _write(dtype: np.dtype, reduction: str) -> Kernel:
    """What an update (operand 1) does with an element (operand 0)."""
    old, new = e.arg(0, dtype), e.arg(1, dtype)
    written = new if reduction == "none" else Expr(reduction, (old, new), dtype)
    return Kernel("map_row", (written, "vv", (dtype.name, dtype.name)))


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
    table = lo.scratch(name, 8 * 3)  # result and operands of the micro-kernel
    args = [
        *_lookup(lookup), x or 0, y, updates.ref, total, max(block, 1), dtype.itemsize, _write(dtype, reduction), *table
    ]  # fmt: skip
    lo.emit(Kernel("scatter"), args, info, check=check)


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
    wide = lengths.type.dtype.itemsize == 8
    args = [x, y, lengths.ref, wide, batch[0], time[0], block, batch[1], time[1]]
    lo.emit(Kernel("reverse_sequence"), args, info, check=check)

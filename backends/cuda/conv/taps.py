"""The table of a convolution's taps: a constant, or written by a step where the image's strides stand for many."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from graphc.backends.cuda.conv.conv_block import ENTRY
from graphc.backends.cuda.conv.taps_block import WRITE_TABLE, WriteTable
from graphc.backends.cuda.conv.window import Axis, dhw, table_of
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.lower.constants import constant
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo
from graphc.sizes import holds_sizes, largest


def tap_table(lo: CudaLowering, axes: Sequence[Axis], channels: int, strides: Sequence[int], whole: int) -> Ref:
    """See `table_of`."""
    if not holds_sizes(tuple(strides[1:])):
        return constant(lo, table_of(axes, channels, strides, whole)).ref
    count = channels * prod(len(a.taps) for a in axes)
    rows = largest(1, -(-count // whole)) * whole
    y = Ref(Buffer("taps", 8 * ENTRY * rows))
    write_table(lo, axes, channels, strides, y, rows)
    return y


def write_table(
    lo: CudaLowering, axes: Sequence[Axis], channels: int, strides: Sequence[int], y: Ref, rows: int
) -> None:
    counts = [len(a.taps) for a in axes]
    args = WRITE_TABLE(
        grid=-(-rows // THREADS), rows=rows, count=channels * prod(counts), y=y, channel=strides[1], **dhw("x", strides[2:]),
        **dhw("k first step", counts, [a.taps[0] if a.taps else 0 for a in axes], [_step(a) for a in axes]),
    )  # fmt: skip
    info = StepInfo(0, (), ("Taps",), "write_table", output="taps", nbytes=8 * ENTRY * rows)
    lo.emit(WriteTable(), args, info, writes=[y])


def _step(axis: Axis) -> int:
    """Positions from one tap to the next."""
    return axis.taps[1] - axis.taps[0] if len(axis.taps) > 1 else 0

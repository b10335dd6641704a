"""Steps of kernels that go along rows or down columns: passes, reductions in chunks, weighted sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.verbs.blend_block import BLEND_AXIS, BlendAxis, BlendElements, BlendRows
from graphc.backends.cpu.verbs.numbers import tap_tables, write_taps
from graphc.backends.cpu.verbs.passes_block import PASSES, ColumnPasses, ManyRows, RowPasses, RunPasses
from graphc.lower.constants import constant
from graphc.lower.kernel import Kernel, Passes
from graphc.lower.limits import PASS_DIMS, PASS_RECORDS
from graphc.lower.storage import Buffer, Ref
from graphc.lower.strides import collapse
from graphc.lower.verbs import Along, Around, Blend, Reducer
from graphc.ops._taps import TapRule, Taps
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering

ROW_CHUNK = 8192  # elements of a row that one call reduces: partial sums keep their accuracy, threads share long rows
COLUMN_CHUNK = 512
SHORT = 4  # vectors: rows that are no longer have one accumulator
ROWS_CHUNK = 8192  # elements of the rows that one call reduces, where it reduces several
LANES_CHUNK = 1024  # columns of one call that reduces them, and four times as many as of any other
FEW = 8  # elements that are too few for a row of vectors
REACH = 1 << 31  # bytes that the int32 offsets of `blend_elements` reach


@dataclass(frozen=True)
class Record:
    """One operand or output of a micro-kernel that takes (m, n, table): an address and a byte step.

    strides: bytes along each outer dim, outermost first; chunk_m, chunk_n: bytes from one chunk of m or n to the next.
    """

    ref: Ref | int
    strides: Sequence[int]
    step: int = 0
    chunk_m: int = 0
    chunk_n: int = 0


def emit_passes(
    lo: CpuLowering,
    micro: Kernel,
    dims: Sequence[int],
    records: Sequence[Record],
    m: int,
    n: int,
    info: StepInfo,
    chunk_m: int | None = None,
    chunk_n: int | None = None,
    *,
    writes: Sequence[Ref],
) -> None:
    """Call `micro` for each element of the outer `dims` and each chunk of m by n. writes: as of `Lowering.emit`."""
    dims, strides = collapse(list(dims), [list(r.strides) for r in records])
    if len(dims) > PASS_DIMS or len(records) > PASS_RECORDS:
        raise AssertionError(f"{info.output} needs {len(dims)} loops and {len(records)} operands")
    scratch, stride = lo.scratch(info.output, 16 * len(records))
    missing = PASS_DIMS - len(dims)
    args = PASSES(
        micro=micro, operands=len(records), scratch=scratch, stride=stride, m=m, m_chunk=chunk_m or max(m, 1),
        n=n, n_chunk=chunk_n or max(n, 1), dims=dims[::-1] + [1] * missing,
        records=[
            {"ref": r.ref, "step": r.step, "m_bytes": r.chunk_m, "n_bytes": r.chunk_n, "strides": s[::-1] + [0] * missing}
            for r, s in zip(records, strides)
        ],
    )  # fmt: skip
    lo.emit(RunPasses(), args, info, writes=writes)


def _results(p: Passes, operands: Sequence[Along]) -> list[Ref]:
    return [o.ref for o in operands[len(p.kinds) :] if isinstance(o.ref, Ref)]


def row_passes(
    lo: CpuLowering, p: Passes, dims: Sequence[int], operands: Sequence[Along], m: int, n: int, info: StepInfo
) -> None:
    records = [Record(o.ref, o.strides, o.step) for o in operands]
    emit_passes(lo, RowPasses(**vars(p)), dims, records, m, n, info, writes=_results(p, operands))


def column_passes(
    lo: CpuLowering, p: Passes, dims: Sequence[int], operands: Sequence[Along], m: int, n: int, info: StepInfo
) -> None:
    width = LANES_CHUNK // 4
    items = [np.dtype(d).itemsize if kind == "v" else 0 for kind, d in zip(p.kinds, p.dtypes)]
    items += [e.dtype.itemsize for _, e in p.outputs]
    records = [Record(o.ref, o.strides, o.step, 0, width * item) for o, item in zip(operands, items)]
    emit_passes(lo, ColumnPasses(**vars(p)), dims, records, m, n, info, chunk_n=width, writes=_results(p, operands))


def reduce(lo: CpuLowering, r: Reducer, x: Ref, shape: Around, y: Ref, count: int, info: StepInfo) -> None:
    """Long axes go in chunks whose partial results are reduced again, the same way for any number of threads."""
    outer, size, inner = shape
    chunk = ROW_CHUNK if inner == 1 else COLUMN_CHUNK
    if size >= 4 * chunk:
        pieces = -(-size // chunk)
        partial = Ref(Buffer(f"{info.output}/partial", outer * pieces * inner * r.partial.itemsize))
        _emit_chunks(lo, r.first(), x, shape, chunk, partial, count, info)
        reduce(lo, r.rest(), partial, (outer, pieces, inner), y, count, replace(info, nbytes=0, flops=0))
    else:
        _emit_chunks(lo, r, x, shape, max(size, 1), y, count, info)


def _emit_chunks(
    lo: CpuLowering, r: Reducer, x: Ref, shape: Around, chunk: int, out: Ref, count: int, info: StepInfo
) -> None:
    outer, size, inner = shape
    pieces = max(-(-size // chunk), 1)
    item, to = r.dtype.itemsize, r.result.itemsize
    counted = Record(count, [0])
    if inner == 1 and pieces == 1 and outer > 1:
        rows = -(-ROWS_CHUNK // max(size, 1) // lo.target.vl) * lo.target.vl
        records = [Record(x, [0], size * item, rows * size * item), counted, Record(out, [0], to, rows * to)]
        p = r.passes
        micro = ManyRows(
            dtypes=p.dtypes, reduction=p.passes[0], output=p.outputs[0][1], short=size < SHORT * lo.target.vl
        )
        emit_passes(lo, micro, [1], records, outer, size, info, rows, size, writes=[out])
        return
    if inner == 1:
        records = [Record(x, [size * item], chunk_n=chunk * item), counted, Record(out, [pieces * to], chunk_n=to)]
        emit_passes(lo, RowPasses(**vars(r.passes)), [outer], records, 1, size, info, chunk_n=chunk, writes=[out])
        return
    width = LANES_CHUNK
    records = [
        Record(x, [size * inner * item], inner * item, chunk * inner * item, width * item),
        counted,
        Record(out, [pieces * inner * to], 0, inner * to, width * to),
    ]
    emit_passes(lo, ColumnPasses(**vars(r.passes)), [outer], records, size, inner, info, chunk, width, writes=[out])


def _tables_of_elements(
    lo: CpuLowering, taps: Taps | TapRule, inner: int, item: int, dtype: np.dtype
) -> tuple[Ref, Ref]:
    """Offsets and weights as `blend_elements` wants them: [taps, n * inner]."""
    if isinstance(taps, TapRule):
        return write_taps(lo, taps, item, dtype, np.dtype(np.int32), inner, tap_first=True)
    places = taps.indices.T[:, :, None] * inner + np.arange(inner)
    offsets = constant(lo, (places.reshape(taps.width, -1) * item).astype(np.int32))
    return offsets.ref, constant(lo, np.repeat(taps.weights.T, inner, 1).astype(dtype)).ref


def blend(lo: CpuLowering, b: Blend, name: str, info: StepInfo) -> None:
    outer, size, inner = b.around
    n, count = b.taps.count, b.taps.width
    item, to = b.dtype.itemsize, b.finish.dtype.itemsize
    if inner < FEW and size * inner * item <= REACH:  # as one row of n * inner elements
        offsets, weights = _tables_of_elements(lo, b.taps, inner, item, b.term.dtype)
        records = [
            Record(b.x, [size * inner * item]),
            Record(b.y, [n * inner * to]),
            Record(offsets, [0]),
            Record(weights, [0]),
        ]
        emit_passes(lo, BlendElements(b.term, b.finish), [outer], records, count, n * inner, info, writes=[b.y])
        return
    row = inner * item
    offsets, weights = tap_tables(lo, b.taps, row, np.dtype(np.float64))
    scratch, stride = lo.scratch(name, 8 + 16 * count)
    args = BLEND_AXIS(
        micro=BlendRows(b.term, b.finish), x=b.x, y=b.y, outer=outer, out=n, inner=inner, x_bytes=size * row,
        row_bytes=inner * to, taps=count, offsets=offsets, weights=weights,
        scratch=scratch, scratch_stride=stride,
    )  # fmt: skip
    lo.emit(BlendAxis(), args, info, writes=[b.y])

"""Products in bfloat16: operands, float32 in memory, are rounded to pairs while they are packed."""

from __future__ import annotations

import math

from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.product.matrices import Product
from graphc.backends.cpu.product.pairs_block import (
    PACK_PAIR_COLUMNS,
    PACK_PAIR_ROWS,
    PackPairColumns,
    PackPairRows,
    PairColumns,
    PairRow,
)
from graphc.backends.cpu.product.panels import Panels
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo


def rounded_rows(lo: CpuLowering, p: Product, panels: Panels, a: Ref, info: StepInfo) -> Ref:
    """The left operand, once for all products that share it."""
    key = "pairs", a.buffer, a.offset, p.m, p.k, p.a, panels.mr, p.batch, p.a_batch
    if key not in lo.packed_rows:
        rows = math.prod(p.batch) * -(-p.m // panels.mr) * panels.mr
        nbytes = rows * panels.padded * panels.dot.item
        to = lo.packed_rows[key] = Ref(Buffer(f"{info.output}/rows", nbytes))
        moved = math.prod(p.batch) * p.m * p.k * panels.dot.accumulator.item + nbytes
        reason = "rows of a product, rounded to bfloat16"
        step = StepInfo(0, info.nodes[:1], ("Pack",), "pack_pair_rows", "", reason, info.output, 0, moved)
        args = PACK_PAIR_ROWS(
            micro=PairRow(), a=a, to=to, m=p.m, k=p.k, row=p.a[0], column=p.a[1], mr=panels.mr, dims=p.batch,
            a_batch=p.a_batch,
        )  # fmt: skip
        lo.emit(PackPairRows(), args, step, writes=[to])
    return lo.packed_rows[key]


def emit_rounded_columns(
    lo: CpuLowering, p: Product, panels: Panels, b: Ref, to: Ref, batch: int, b_batch: int, info: StepInfo
) -> None:
    """The step that packs a right operand which is computed at run time: `batch` matrices, b_batch bytes apart."""
    args = PACK_PAIR_COLUMNS(
        micro=PairColumns(), b=b, to=to, batch=batch, b_batch=b_batch, to_batch=panels.nbytes, k=p.k, n=p.n, row=p.b[0],
        column=p.b[1], nv=panels.nv, last_nv=panels.last_nv, panel=panels.panel,
    )  # fmt: skip
    lo.emit(PackPairColumns(), args, info, writes=[to])

"""RNN, GRU and LSTM: one matrix product projects the whole input, then one step runs every direction through time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.product.tile import MULTIPROCESSORS
from graphc.backends.cuda.recurrent.operands import Operands
from graphc.backends.cuda.recurrent.recurrent_block import ITEM, RECURRENT, SHARED_BYTES, Recurrent, slot_count
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.recurrent_cells import Stage, stages
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Storage
from graphc.ops.recurrent import BoundCell, bound_cell
from graphc.sizes import choose, example, hint_of

ROWS = (1, 2, 4, 8)  # of the batch, in a block
MANY = 4  # with more rows, kernels of two stages or with states in scratch memory would spill registers
BUSY = (
    MULTIPROCESSORS // 2
)  # blocks that read weights at once before they keep each other waiting for the level-2 cache
NARROW, THREADS = 16, (64, 512)  # up to so many units a small block is enough


def supported(node: Node, target: Any = None) -> str | None:
    if node.output.dtype != np.float32:
        return f"{node.op.name} has no {node.output.dtype.name} kernel"
    return "the input has no features" if node.inputs[0].shape[2] == 0 else native_dtypes(node)


@lowers("RNN", "GRU", "LSTM", supported=supported)
def lower_recurrent(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    results = [lo.write(v) for v in node.outputs]
    c = bound_cell(node.call)
    if c.batch and c.hidden:
        _emit_layer(lo, group, c, results)


def kernel_of(node: Node, c: BoundCell) -> Recurrent:
    """The kernel of a layer of these sizes."""
    peepholes = len(node.inputs) > 7 and node.inputs[7] is not None
    every = tuple(stages(node.op.name, f, c.clip, node.attrs, peepholes) for f in c.activations)
    alike = all(repr(s) == repr(every[0]) for s in every)
    rows, shared = _rows(c, every[0])
    return Recurrent(every[:1] if alike else every, c.gates, rows, THREADS[c.hidden > NARROW], shared)


def _rows(c: BoundCell, cell: tuple[Stage, ...]) -> tuple[int, bool]:
    """Rows of the batch in a block, and whether their states fit in shared memory.

    More rows in a block use each weight that it reads more often; fewer leave work for more blocks.
    """
    nbytes = slot_count(cell) * c.hidden * ITEM
    shared = nbytes <= SHARED_BYTES
    most = max((n for n in ROWS if n * nbytes <= SHARED_BYTES), default=MANY)
    if len(cell) > 1:
        most = min(most, MANY)
    return choose(lambda batch: min(most, _enough(batch, len(c.reverse))), c.batch), shared


def _enough(batch: int, directions: int) -> int:
    """Rows with which there are not too many blocks."""
    return min((n for n in ROWS if directions * -(-batch // n) <= BUSY), default=ROWS[-1])


def _emit_layer(lo: CudaLowering, group: Group, c: BoundCell, results: list[Storage]) -> None:
    node, operands = group.nodes[0], Operands(lo, group, c)
    kernel = kernel_of(node, c)
    cells, directions = kernel.directions[0], len(c.reverse)
    lens = operands.lengths()
    words = operands.projection(cells) | operands.recurrence() | operands.initial() | operands.vectors(cells)
    groups = -(-c.batch // kernel.rows)
    nbytes = 0 if kernel.shared else -(-slot_count(cells) * c.hidden * kernel.rows * ITEM // 128) * 128
    args = RECURRENT(
        grid=groups * directions, total=c.batch, indices=lens.ref if lens else 0,
        wide=int(lens is not None and lens.type.dtype.itemsize == 8), groups=groups, seq=c.seq, batch=c.batch,
        hidden=c.hidden, reverse=(*map(int, c.reverse), 0)[:2],
        scratch=lo.scratch(node.name, nbytes * groups * directions) if nbytes else 0, scratch_bytes=nbytes,
        **words, **_results(c, results),
    )  # fmt: skip
    where = "shared memory" if kernel.shared else "scratch memory"
    rows = f"{hint_of(kernel.rows)} of {c.batch} rows a block, states in {where}"
    info = lo.info(group, str(example(kernel)), "", rows)
    info = replace(info, flops=info.flops * c.hidden // (c.hidden + c.inputs))
    check = operands.out_of_range if lens else None
    lo.emit(kernel, args, info, check=check, writes=[s.ref for s in results])


def _results(c: BoundCell, results: list[Storage]) -> dict[str, Any]:
    """Words of the results: y, then the final states that are wanted."""
    y, *finals = results
    time, row, direction = (y.strides[i] for i in ((1, 0, 2) if c.batch_first else (0, 2, 1)))
    words: dict[str, Any] = {"y": y.ref, "y_direction": direction, "y_row": row, "y_time": time}
    for name, s in zip(("h_final", "c_final"), (*finals, None, None)):
        by_row, by_direction = (s.strides[i] for i in ((0, 1) if c.batch_first else (1, 0))) if s else (0, 0)
        words |= {name: s.ref if s else 0, f"{name}_direction": by_direction, f"{name}_row": by_row}
    return words

"""The input of a recurrent layer times its weights: one matrix product for every step, gate and direction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from graphc.backends.cpu.conv.window import Epilogue
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.product.gemm import dot_of, emit_product, kinds
from graphc.backends.cpu.product.matrices import Product
from graphc.backends.cpu.product.panels import panels_of, product_tile
from graphc.backends.cpu.product.strassen import Matrix, Rows, emit_strassen, halves_of, serves
from graphc.backends.cpu.recurrent.recurrent_operands import Operands
from graphc.backends.cpu.recurrent.recurrent_plan import RecurrentPlan
from graphc.backends.cpu.sizes import BATCH_DIMS, FLOAT_BYTES
from graphc.backends.cpu.tile.dot import FMA
from graphc.lower.aligned import ALIGNMENT
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.report import StepInfo

LONG = 8  # steps, from which on an operand that is batch first is projected sequence by sequence
CROWDED = 2048  # bytes: rows of a tile at multiples of this distance evict each other from the level-1 cache


@dataclass(frozen=True)
class Projection:
    """x W^T + biases: rows of `RecurrentPlan.projection`, `pitch` bytes each, of [step][sequence] or, not by_steps, of
    [sequence][step]."""

    ref: Ref
    pitch: int
    by_steps: bool

    @staticmethod
    def of(name: str, layer: RecurrentPlan) -> Projection:
        c, width = layer.cell, len(layer.projection)
        crowded = width * FLOAT_BYTES % CROWDED == 0  # rows would meet in one set of the level-1 cache
        pitch = width * FLOAT_BYTES + (ALIGNMENT if crowded else 0)
        # the sequences' rows of one step lie side by side: in other orders they too would meet in one set
        by_steps = not c.batch_first or c.seq >= LONG
        return Projection(Ref(Buffer(f"{name}/projection", max(1, c.seq * c.batch) * pitch)), pitch, by_steps)

    def strides(self, layer: RecurrentPlan) -> tuple[int, int]:
        """From one sequence of the batch to the next, from one step to the next."""
        row, step = (1, layer.cell.batch) if self.by_steps else (layer.cell.seq, 1)
        return row * self.pitch, step * self.pitch


def emit_projection(lo: CpuLowering, operands: Operands, y: Projection) -> None:
    layer, c, x = operands.layer, operands.layer.cell, lo.read(operands.x)
    if c.seq == 0:
        return
    p = _product(x, layer, y)
    flops = 2 * c.seq * c.batch * len(layer.directions) * c.gates * c.hidden * c.inputs
    size = f"{c.seq * c.batch}x{p.k} by {p.k}x{p.n}, every step at once"
    nbytes = FLOAT_BYTES * (c.seq * c.batch * (c.inputs + p.n) + p.n * c.inputs)
    node = operands.node
    info = StepInfo(0, (node.name,), (f"{node.op.name} input",), "gemm", "gemm", "", node.output.name, flops, nbytes)
    as_asked = operands.w.is_const and lo.policy.precision != "float32"
    dot = dot_of(lo, p, operands.w) if as_asked else FMA
    info = dot.told(info, operands.w)
    if dot is FMA and _by_strassen(lo, operands, x, y, size, info):
        return
    panels = panels_of(lo.target, p.m, p.n, dot.steps(c.inputs), dot)
    width = panels.nv * lo.target.vl
    weights = operands.columns(operands.w, c.inputs, layer.projection, width, panels.padded, dot=dot)
    info = replace(info, reason=f"{size}; tile {panels.mr}x{panels.nv}{kinds(dot)}")
    emit_product(lo, p, panels, (x.ref, weights, operands.biases(), y.ref), (0,) * BATCH_DIMS, info)


def _product(x: Storage, layer: RecurrentPlan, y: Projection) -> Product:
    """All rows of x at once, or where they or their results do not lie evenly those of one outer index at a time."""
    outer, rows, _ = x.type.extents
    ones, zeros = (1,) * BATCH_DIMS, (0,) * BATCH_DIMS
    width, (by_outer, by_row, by_element) = len(layer.projection), x.strides
    p = Product(
        outer * rows, width, layer.cell.inputs, (by_row, by_element), (0, 0), y.pitch, ones, zeros, zeros, zeros
    )
    if rows == 1:
        return replace(p, a=(by_outer, by_element))
    swapped = y.by_steps and layer.cell.batch_first
    if outer == 1 or not swapped and by_outer == rows * by_row:
        return p
    p = replace(p, m=rows, batch=(outer, *ones[1:]), a_batch=(by_outer, *zeros[1:]))
    if swapped:
        return replace(p, y_row=outer * y.pitch, y_batch=(y.pitch, *zeros[1:]))
    return replace(p, y_batch=(rows * y.pitch, *zeros[1:]))


def _by_strassen(lo: CpuLowering, operands: Operands, x: Storage, y: Projection, size: str, info: StepInfo) -> bool:
    """The projection by Strassen's algorithm, where that serves."""
    c, v, rows = operands.cell, operands.w, operands.layer.projection
    m, n, k, vector = c.seq * c.batch, len(rows), c.inputs, lo.target.vl * FLOAT_BYTES
    if not v.is_const or not y.by_steps or x.strides[2] != FLOAT_BYTES or not serves(lo, m, n, k):
        return False
    h = halves_of(lo.target, m, n, k, partial(product_tile, lo.target))

    def load() -> np.ndarray:
        return np.where(rows[:, None] >= 0, v.data.reshape(-1, k)[rows], 0).T

    matrix = Matrix(v.data, ("projection", rows.tobytes()), load)
    info = replace(info, reason=f"{size}; tile {h.mr}x{h.nv}, an eighth fewer multiplications")
    time, row = (x.strides[i] for i in ((1, 0) if c.batch_first else (0, 1)))
    if c.batch_first and h.within(c.seq):  # rows in the order in which they lie
        left = Rows(x.ref, time, vector, width=c.seq, line=row)
        result = Rows(y.ref, c.batch * y.pitch, vector, width=c.seq, line=y.pitch)
    else:
        left, result = Rows(x.ref, row, vector, width=c.batch, line=time), Rows(y.ref, y.pitch, vector)
    emit_strassen(lo, h, 1, left, result, matrix, operands.biases(), Epilogue(None), (), info)
    return True

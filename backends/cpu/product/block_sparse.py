"""Products with a constant matrix that has blocks of zeros: these are left out.

A panel is 16 columns. Of its rows those stay that are not all zeros, packed one behind the other, with their numbers: the kernel reads
the number and multiplies what the rows of the left operand have there. So a block pays that is 16 columns wide and begins at a multiple
of 16 (`graphc shrink --sparse 0.7 --block 16x1`). An infinity or a NaN in front of a zero that is left out adds nothing, where the plain
product makes a NaN of it. `graphc.compile(..., disabled=["block_sparse"])` leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.product.gemm_block import NUMBER, RECORD
from graphc.backends.cpu.product.matrices import Product
from graphc.backends.cpu.product.panels import Panels, rows_of_tile
from graphc.backends.cpu.sizes import lines
from graphc.backends.cpu.tile.dot import FMA
from graphc.graph import Value
from graphc.lower.storage import Ref
from graphc.sizes import is_size

NAME = "block_sparse"
COLUMNS = 16  # of a panel
KEPT = 0.55  # part of the rows of panels, up to which it is faster (benchmarks/small_weights.py)
LEAST = 64  # reduction steps, below which there is nothing to leave out
SAMPLED = 4096  # elements that tell whether there may be so many zeros


@dataclass(frozen=True)
class SparsePanels(Panels):
    """Panels of COLUMNS columns, of which `kept` rows are packed in all. A panel begins with a record of where they are."""

    kept: int = 0

    sparse: ClassVar[bool] = True

    @property
    def panel(self) -> int:
        return RECORD.size * 8

    @property
    def nbytes(self) -> int:
        return self.kept * self.dot.weights(self.nv * self.vl)


def panels_where_sparse(lo: CpuLowering, p: Product, v: Value) -> SparsePanels | None:
    """Of the right operand v, where it has zeros enough."""
    if not v.is_const or any(p.b_batch) or not lo.policy.uses(NAME) or is_size(p.n) or is_size(p.k) or p.k < LEAST:
        return None
    if _sampled_zeros(v.data) < (1 - KEPT) / 2:
        return None
    used = _used(_matrix(v.data, p))
    if np.count_nonzero(used) > KEPT * used.size:
        return None
    vl = lo.target.vl
    vectors = -(-p.n // vl)
    nv = min(max(1, COLUMNS // vl), vectors)  # fewer than a panel has where there are no more columns
    tiles, padded = -(-vectors // nv), -(-p.k // vl) * vl
    mr = 1 if not is_size(p.m) and p.m == 1 else rows_of_tile(lo.target, p.m, nv)
    lanes = (p.n - 1) % vl + 1
    return SparsePanels(mr, nv, (vectors - 1) % nv + 1, tiles, lanes, padded, vl, FMA, int(np.count_nonzero(used)))


def packed_rows_of(lo: CpuLowering, p: Product, v: Value, panels: SparsePanels) -> Ref:
    """The records of all panels, and behind them of each the numbers of its rows, in int32, and the rows."""

    def make() -> np.ndarray:
        matrix = _matrix(v.data, p)
        used = _used(matrix)
        counts = used.sum(0)
        numbers = [lines(NUMBER * int(c)) for c in counts]
        widths = [panels.nv] * (panels.tiles - 1) + [panels.last_nv]
        rows = [int(c) * w * panels.vl * FMA.item for c, w in zip(counts, widths)]
        begins = lines(panels.panel * panels.tiles) + np.cumsum([0, *(a + b for a, b in zip(numbers, rows))])
        out = np.zeros(int(begins[-1]), np.uint8)
        for t, (width, count) in enumerate(zip(widths, counts.tolist())):
            at, first = int(begins[t]), t * panels.nv * panels.vl
            kept = np.flatnonzero(used[:, t])
            wide = np.zeros((count, width * panels.vl), np.float32)
            part = matrix[kept, first : first + wide.shape[1]]
            wide[:, : part.shape[1]] = part
            record = np.array(
                RECORD(rows=at + numbers[t] - t * panels.panel, numbers=at - t * panels.panel, count=count)
            )
            out[t * panels.panel :][: panels.panel] = record.astype(np.int64).view(np.uint8)
            out[at : at + NUMBER * count] = kept.astype(np.int32).view(np.uint8)
            out[at + numbers[t] : int(begins[t + 1])] = wide.reshape(-1).view(np.uint8)
        return out

    recipe = (NAME, p.k, p.n, p.b, panels.nv, panels.vl)
    return Ref(lo.weights.pack(v.data, recipe, make, element=FMA.b))


def _matrix(data: np.ndarray, p: Product) -> np.ndarray:
    """[k, n]"""
    data = np.ascontiguousarray(data)
    return np.lib.stride_tricks.as_strided(data, (p.k, p.n), p.b)


def _used(matrix: np.ndarray) -> np.ndarray:
    """bool [k, panels]: rows that are not all zeros."""
    return np.logical_or.reduceat(matrix != 0, np.arange(0, matrix.shape[1], COLUMNS), axis=1)


def _sampled_zeros(data: np.ndarray) -> float:
    """About what part of the elements is zero."""
    places = np.random.default_rng(0).integers(data.size, size=min(SAMPLED, data.size))
    return float(np.mean(data.reshape(-1)[places] == 0))

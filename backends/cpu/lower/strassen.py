"""Products of many rows with constant matrices by Strassen's algorithm: when it pays, the packed factors, the steps.

It multiplies an eighth less, on 1.75 times the packed weights. Its error is bounded by the largest elements of the factors
instead of those of one row and one column (Higham, Accuracy and Stability of Numerical Algorithms, chapter 23): for one
level 1 to 3e-6 of the result's scale were measured, where the plain product has 1 to 2e-6. An infinity or a NaN in a row
spreads to the row half a block further down. `graphc.compile(..., disabled=["strassen"])` leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from backends.cpu.lower.core import Lowering
from backends.cpu.lower.tiles import lines_ahead
from backends.cpu.lower.window import Epilogue, channel_vector
from backends.cpu.micro.strassen import FACTORS, HEAD_BYTES, SUMS
from backends.cpu.program import Buffer, Ref
from backends.cpu.toolchain import Kernel
from graphc.report import StepInfo

NAME = "strassen"  # in `disabled`
FEWEST_ROWS, LEAST_DEPTH, FEWEST_COLUMNS = 96, 256, 256  # below, packing and fetching more weights take what is saved
MOST_ROWS = 256  # of a block, whose factors then stay near


@dataclass(frozen=True)
class Halves:
    """How a product is cut: `blocks` of rows, register tiles of mr rows x nv vectors, `tiles` of them in half the columns
    (the last one of last_nv), `steps` vectors in half the reduction."""

    blocks: int
    mr: int
    nv: int
    last_nv: int
    tiles: int
    steps: int
    row_tiles: int


def choose_strassen(lo: Lowering, m: int, n: int, k: int, tile: Callable[[int, int], tuple[int, int]]) -> Halves | None:
    """How y[m, n] = a[m, k] b[k, n] is cut, or None where a plain product is at least as fast. tile(rows, vectors): the
    register tile of a product."""
    vl = lo.target.vl
    if NAME in lo.without or m < FEWEST_ROWS or k < LEAST_DEPTH or n < FEWEST_COLUMNS:
        return None
    if k % (2 * vl) or n % (2 * vl):
        return None
    blocks = -(-m // MOST_ROWS)
    vectors = n // (2 * vl)
    mr, nv = tile((m // blocks + 1) // 2, vectors)
    tiles = -(-vectors // nv)
    most = (-(-m // blocks) + 1) // 2
    return Halves(blocks, mr, nv, vectors - (tiles - 1) * nv, tiles, k // (2 * vl), -(-most // mr))


def emit_strassen(
    lo: Lowering,
    h: Halves,
    m: int,
    places: tuple[Ref, int, Ref, int],
    weights: np.ndarray,
    transposed: bool,
    bias: np.ndarray | None,
    epilogue: Epilogue,
    extras: Sequence[int | Ref],
    info: StepInfo,
) -> None:
    """The steps. places: a and its row stride, y and its. weights: b, or its transpose. extras: see drivers/strassen.py."""
    a, a_row, y, y_row = places
    vl, vectors = lo.target.vl, (h.tiles - 1) * h.nv + h.last_nv
    rows = _left_factors(lo, h, m, a, a_row, info)
    packed = _right_factors(lo, h, weights, transposed)
    zeros = channel_vector(lo, None, h.mr * h.nv * vl, vl)
    lines = lines_ahead(vl * h.nv * vl * 4 // 64, h.row_tiles, packed.buffer.nbytes)
    tile = lambda nv, stage: Kernel(  # noqa: E731
        "product_tile", (h.mr, nv, epilogue.expression if stage == "sum" else None, False, lines, stage)
    )
    kernels = [tile(nv, stage) for nv in (h.nv, h.last_nv) for stage in ("middle", "sum")]
    scratch, stride = lo.scratch(info.output, HEAD_BYTES + SUMS * h.row_tiles * h.mr * h.nv * vl * 4)
    args = [
        *kernels, rows, packed, Ref(channel_vector(lo, bias, 2 * vectors * vl, vl)), y, Ref(zeros), m, h.blocks, h.tiles,
        h.steps, vectors, y_row, h.mr, h.nv, h.last_nv, lines, scratch, stride, *epilogue.bounds, len(extras) // 3, *extras,
    ]  # fmt: skip
    lo.emit(Kernel("strassen"), args, replace(info, kernel=str(kernels[1]), algorithm="strassen"))


def _left_factors(lo: Lowering, h: Halves, m: int, a: Ref, a_row: int, info: StepInfo) -> Ref:
    """Packed in a step of its own, once for all products that share the operand."""
    key = NAME, a.buffer, a.offset, m, a_row, h.steps, h.mr, h.blocks
    if key not in lo.packed_rows:
        nbytes = h.blocks * FACTORS * h.row_tiles * h.mr * h.steps * lo.target.vl * 4
        to = lo.packed_rows[key] = Ref(Buffer(f"{info.output}/factors", nbytes))
        reason = "sums of a product's left operand"
        step = StepInfo(0, info.nodes[:1], ("Pack",), "pack_strassen", "", reason, info.output, 0, 2 * nbytes)
        args = [a, to, m, h.steps, a_row, h.mr, h.blocks, Kernel("strassen_rows")]
        lo.emit(Kernel("pack_strassen"), args, step)
    return lo.packed_rows[key]


def _right_factors(lo: Lowering, h: Halves, weights: np.ndarray, transposed: bool) -> Ref:
    """B11, B21, T2, T3, -T4, T1, B22 as [column tile][factor][K / 2][vectors], summed in float64."""
    vl = lo.target.vl

    def make() -> np.ndarray:
        depth, columns = h.steps * vl, ((h.tiles - 1) * h.nv + h.last_nv) * vl  # of a quarter
        b = weights.reshape(2 * columns, 2 * depth).T if transposed else weights.reshape(2 * depth, 2 * columns)
        out = np.empty(FACTORS * depth * columns, np.float32)
        at = 0
        for t in range(h.tiles):
            width = (h.nv if t < h.tiles - 1 else h.last_nv) * vl
            left = slice(t * h.nv * vl, t * h.nv * vl + width)
            right = slice(left.start + columns, left.stop + columns)
            b11, b12, b21, b22 = (
                b[rows, part].astype(np.float64)
                for rows in (slice(depth), slice(depth, None))
                for part in (left, right)
            )
            t1, t3 = b12 - b11, b22 - b12
            t2 = b22 - t1
            for factor in (b11, b21, t2, t3, b21 - t2, t1, b22):
                out[at : at + depth * width] = factor.ravel()
                at += depth * width
        return out

    recipe = (NAME, transposed, h.steps, h.nv, h.last_nv, h.tiles, vl)
    return Ref(lo.weights.pack(weights, recipe, make))

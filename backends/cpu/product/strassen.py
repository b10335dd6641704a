"""Products of many rows with constant matrices by Strassen's algorithm: how they are cut, the packed factors, the steps.

It multiplies an eighth less, on 1.75 times the packed weights. Its error is bounded by the largest elements of the factors
instead of those of one row and one column (Higham, Accuracy and Stability of Numerical Algorithms, chapter 23): for one
level 1 to 3e-6 of the result's scale were measured, where the plain product has 1 to 2e-6. An infinity or a NaN in a row
spreads to the row half a block further down. `graphc.compile(..., disabled=["strassen"])` leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.backends.cpu.conv.conv_row_micro import BLOCK_BYTES
from graphc.backends.cpu.conv.window import Epilogue
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.product.gemm_block import ProductTile
from graphc.backends.cpu.product.strassen_block import (
    STRASSEN,
    STRASSEN_FACTORS,
    Strassen,
    StrassenFactors,
    StrassenRows,
)
from graphc.backends.cpu.product.strassen_micro import FACTORS, QUARTERS, SUMS
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA
from graphc.backends.cpu.tile.tiles import fetches, lines_ahead
from graphc.lower.constants import channel_vector
from graphc.lower.kernel import Kernel
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo
from graphc.sizes import is_size, most_of, where

NAME = "strassen"
FEWEST_ROWS, LEAST_DEPTH, FEWEST_COLUMNS = 96, 256, 256  # below, packing and fetching more weights take what is saved
MOST_ROWS = 256  # of a block, whose factors then stay near
ROWS_AT_ONCE = 32  # of blocked operands, of which sums are made


@dataclass(frozen=True)
class Rows:
    """Rows of a matrix, or of one for each image, in memory: vectors of columns `vector` bytes apart in rows `row` bytes
    apart in lines of `width` rows (by default all in one), `line` bytes apart, `image` bytes from image to image."""

    ref: Ref
    row: int
    vector: int
    image: int = 0
    width: int = 1 << 40
    line: int = 0


@dataclass(frozen=True)
class Matrix:
    """A constant right operand: load() makes it from data, [k, n], in a way that recipe tells apart."""

    data: np.ndarray
    recipe: tuple[Hashable, ...]
    load: Callable[[], np.ndarray]

    @classmethod
    def of(cls, data: np.ndarray, n: int, k: int, transposed: bool) -> Matrix:
        """data itself, or its transpose."""
        return cls(data, (transposed,), lambda: data.reshape(n, k).T if transposed else data.reshape(k, n))


@dataclass(frozen=True)
class Halves:
    """How a product of m rows is cut: `blocks` of rows, register tiles of mr rows x nv vectors, `tiles` of them in half the
    columns (the last one of last_nv), `steps` vectors in half the reduction."""

    m: int
    blocks: int
    mr: int
    nv: int
    last_nv: int
    tiles: int
    steps: int

    @property
    def row_tiles(self) -> int:
        return -(-self.rows // self.mr)

    @property
    def rows(self) -> int:
        """Most rows of half a block."""
        return -(-(self.m // 2) // self.blocks) + self.m % 2

    def within(self, width: int) -> bool:
        """Does every register tile lie in one of the lines of `width` rows, for certain?"""
        if is_size(self.m) or is_size(width):
            return False
        pairs = [self.m // 2 * block // self.blocks for block in range(self.blocks + 1)]
        return self.m % 2 == width % self.mr == 0 and not any(p % self.mr for p in pairs)


def serves(lo: CpuLowering, m: int, n: int, k: int) -> bool:
    """Does the algorithm fit y[m, n] = a[m, k] b[k, n], and is it faster than a plain product?"""
    large = m >= FEWEST_ROWS and k >= LEAST_DEPTH and n >= FEWEST_COLUMNS
    return large and lo.policy.uses("strassen") and fits(lo.target, n, k)


def fits(target: Target, n: int, k: int) -> bool:
    """Whole vectors in half the reduction and half the columns."""
    return k % (2 * target.vl) == n % (2 * target.vl) == 0


def halves_of(target: Target, m: int, n: int, k: int, tile: Callable[[int, int], tuple[int, int]]) -> Halves:
    """How y[m, n] = a[m, k] b[k, n] is cut. tile(rows, vectors): the register tile of a product."""
    blocks = -(-m // MOST_ROWS)
    vectors = n // (2 * target.vl)
    mr, nv = tile(where(blocks - 1, m // 2 // blocks, (m + 1) // 2), vectors)
    tiles = -(-vectors // nv)
    return Halves(m, blocks, mr, nv, vectors - (tiles - 1) * nv, tiles, k // (2 * target.vl))


def emit_strassen(
    lo: CpuLowering,
    h: Halves,
    images: int,
    a: Rows,
    y: Rows,
    b: Matrix,
    bias: Ref,
    epilogue: Epilogue,
    epilogue_operands: Sequence[Mapping[str, Any]],
    info: StepInfo,
) -> None:
    """The steps of y = a b + bias. bias: a number per column. epilogue_operands: records of the block."""
    vl, vectors = lo.target.vl, (h.tiles - 1) * h.nv + h.last_nv
    factors = _left_factors(lo, h, images, a, info)
    packed = _right_factors(lo, h, b)
    zeros = channel_vector(lo, None, most_of(h.mr) * h.nv * vl, vl)
    even = lo.rows_per_work_unit(h.row_tiles, images * h.blocks * h.tiles, heavy=True)
    some = where(h.m % 2, h.row_tiles, even)
    lines = lines_ahead(lo.target, vl * FMA.weights(h.nv * vl) // CACHE_LINE, some, packed.buffer.nbytes)

    def tile(nv: int, stage: str) -> Kernel:
        return ProductTile(
            mr=h.mr,
            nv=nv,
            epilogue=epilogue.expression if stage == "sum" else None,
            masked=False,
            lines=fetches(lines),
            stage=stage,
            strided=True,
        )

    ends = tile(h.nv, "sum")
    scratch, stride = lo.scratch(info.output, BLOCK_BYTES + SUMS * some * h.mr * h.nv * lo.target.vector)
    lower, upper = epilogue.bounds
    args = STRASSEN(
        middle=tile(h.nv, "middle"), sum=ends, edge_middle=tile(h.last_nv, "middle"), edge_sum=tile(h.last_nv, "sum"),
        a=a.ref if factors.in_place else 0, a_image=a.image, a_row=a.row, a_step=a.vector,
        factor=factors.ref, operand=factors.operand, tile=factors.tile, row=factors.row, step=factors.step,
        b=packed, bias=bias, zeros=Ref(zeros),
        y=y.ref, y_image=y.image, y_line=y.line, y_row=y.row, y_vector=y.vector, y_width=y.width,
        m=h.m, images=images, blocks=h.blocks, tiles=h.tiles, steps=h.steps, vectors=vectors, mr=h.mr, nv=h.nv,
        last_nv=h.last_nv, tiles_per_unit=some, lines=lines, scratch=scratch, scratch_stride=stride, lo=lower, hi=upper,
        epilogue_operands=len(epilogue_operands), records=epilogue_operands,
    )  # fmt: skip
    lo.emit(Strassen(), args, replace(info, kernel=str(ends), algorithm=NAME), writes=[y.ref])


@dataclass(frozen=True)
class _Factors:
    """Where left factors are, with the strides of product/strassen_block.py. in_place: the quarters among them are where they
    were."""

    ref: Ref
    operand: int
    tile: int
    row: int
    step: int
    in_place: bool


def _left_factors(lo: CpuLowering, h: Halves, images: int, a: Rows, info: StepInfo) -> _Factors:
    """Packed in a step of its own, once for all products that share the operand. Row-major rows are packed tile by tile, for
    the register tile; vectors of one column block are in that order already."""
    vector = lo.target.vector
    blocked = a.row < a.vector
    in_place = a.row == vector and a.width >= h.m
    count = FACTORS - len(QUARTERS) if in_place else FACTORS
    at_once = ROWS_AT_ONCE if in_place else 1
    if blocked:
        rows, operand, tile, row, step = ROWS_AT_ONCE, h.rows * h.steps * vector, 0, vector, h.rows * vector
    else:
        panel = h.mr * h.steps * vector
        rows, operand, tile, row, step = h.mr, h.row_tiles * panel, panel, 0, h.mr * vector
    key = NAME, a, images, h.m, h.blocks, h.steps, tile
    if key not in lo.packed_rows:
        nbytes = images * h.blocks * count * operand
        to = lo.packed_rows[key] = Ref(Buffer(f"{info.output}/factors", nbytes))
        lo.packed_from[to.buffer] = a.ref.buffer
        reason = "sums of a product's left operand"
        moved = images * h.m * h.steps * 2 * vector + nbytes
        pack = StepInfo(0, info.nodes[:1], ("Pack",), "strassen_factors", "", reason, info.output, 0, moved)
        args = STRASSEN_FACTORS(
            a=a.ref, to=to, images=images, m=h.m, blocks=h.blocks, steps=h.steps, mr=rows,
            a_image=a.image, a_line=a.line, a_row=a.row, a_step=a.vector, a_width=a.width,
            operand=operand, tile=tile, row=row, step=step, block=count * operand, at_once=at_once,
            micro=StrassenRows(not in_place),
        )  # fmt: skip
        lo.emit(StrassenFactors(), args, pack, writes=[to])
    return _Factors(lo.packed_rows[key], operand, tile, row, step, in_place)


def _right_factors(lo: CpuLowering, h: Halves, matrix: Matrix) -> Ref:
    """B11, B21, T2, T3, -T4, T1, B22 as [column tile][factor][K / 2][vectors], summed in float64."""
    vl = lo.target.vl

    def make() -> np.ndarray:
        depth, columns = h.steps * vl, ((h.tiles - 1) * h.nv + h.last_nv) * vl  # of a quarter
        b = matrix.load()
        out = np.empty(FACTORS * depth * columns, FMA.b.numpy)
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

    recipe = (NAME, *matrix.recipe, h.steps, h.nv, h.last_nv, h.tiles, vl)
    return Ref(lo.weights.pack(matrix.data, recipe, make))

"""MatMul and Gemm."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from graphc import expr
from graphc.backends.cuda.lower.choices import Candidate
from graphc.backends.cuda.lower.epilogue import Ending, Walked, ending_of, summed, walked
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.lower.sizes import require_near, too_large
from graphc.backends.cuda.product.feeding import Feeding, fed, feedings_of
from graphc.backends.cuda.product.matrices import Matrices, matrices_of, words_of
from graphc.backends.cuda.product.product_block import (
    BATCH,
    PRODUCT,
    THIN,
    THIN_THREADS,
    Product,
    ThinProduct,
)
from graphc.backends.cuda.product.tensor import aligned, choices_of, chunk_of, emit_tensor, on_cores, products_of, told
from graphc.backends.cuda.product.tile import FLAT, MULTIPROCESSORS, side, tile_for
from graphc.expr import Expr
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.registry import native_dtypes
from graphc.report import StepInfo
from graphc.sizes import example, for_speed, hint_of

FEW = 4  # rows up to which each is computed by itself
WARP = 32
NARROW = 8  # columns of a block, of which memory still gives whole sectors


def product_supported(node: Node, target: object) -> str | None:
    return too_large(node) or native_dtypes(node)


@lowers("MatMul", "Gemm", supported=product_supported, epilogue=lambda node: True)
def lower_product(lo: CudaLowering, group: Group) -> None:
    node = group.anchor
    a, b = lo.strided(node.inputs[0]), lo.strided(node.inputs[1])
    first, read = gemm_end(lo, node) if node.op.name == "Gemm" else (None, [])
    ending = ending_of(lo, group, first, read)
    if 0 in group.output.shape:
        return
    m = matrices_of(node, a, b, ending.every)
    (left, right), dtype = node.inputs[:2], node.inputs[0].dtype
    few = min(hint_of(m.m), hint_of(m.n)) <= FEW
    if not few and any(v.is_const and v.type.rank == 2 for v in (left, right)) and choices_of(lo, m, dtype)[0]:
        if left.is_const and left.type.rank == 2:
            a = aligned(lo, left, a, bool(node.attrs.get("transA")))
        if right.is_const and right.type.rank == 2:
            b = aligned(lo, right, b, not node.attrs.get("transB"))
        m = matrices_of(node, a, b, ending.every)
    info = lo.info(group, "product", "", f"{m.m}x{m.k} by {m.k}x{m.n}")
    emit_product(lo, m, dtype, ending, info)


def gemm_end(lo: CudaLowering, node: Node) -> tuple[Expr | None, list[Walked]]:
    """alpha·sum + beta·c in the dtype of the sum, and what it reads."""
    dtype = summed(node.output.dtype)
    alpha, beta = node.attrs["alpha"], node.attrs["beta"]
    total: Any = expr.arg(0, dtype)
    if alpha != 1:
        total = total * _factor(alpha, dtype)
    c = node.inputs[2] if len(node.inputs) > 2 else None
    if c is None or beta == 0:
        return total, []
    added: Any = expr.cast(expr.arg(1, c.dtype), dtype)
    if beta != 1:
        added = added * _factor(beta, dtype)
    return total + added, [walked(lo.strided(c), node.output.type.extents)]


def _factor(number: float, dtype: np.dtype) -> Expr:
    return expr.const(dtype.type(number), dtype)


def emit_product(
    lo: CudaLowering, m: Matrices, dtype: np.dtype, ending: Ending, info: StepInfo, exact: bool = False
) -> None:
    """The steps of a product, in tiles or, where it has few rows or few columns, number by number. exact: elements are only
    multiplied and added, in the dtype of the sum."""
    if len(m.batch) > BATCH:
        share = replace(info, flops=info.flops // m.batch[0], nbytes=info.nbytes // m.batch[0])
        for i in range(m.batch[0]):
            emit_product(lo, m.part(i), dtype, ending, share, exact)
        return
    require_near(m.m * m.n * prod(m.batch))
    if _is_better_turned(m.m, m.n):
        m = m.turned()
    if m.m <= FEW:
        _emit_thin(lo, m, dtype, ending, info)
    elif exact:
        _emit_tiles(lo, m, dtype, ending, info, "")
    else:
        each = [_candidate(lo, m, dtype, ending, info, feeding) for feeding in feedings_of(lo, m, dtype)]
        lo.choices.take(lo, partial(_site, lo, m, dtype, ending), each)


def _candidate(
    lo: CudaLowering, m: Matrices, dtype: np.dtype, ending: Ending, info: StepInfo, feeding: Feeding | None
) -> Candidate:
    if feeding is None:
        return Candidate("CUDA cores", partial(_emit_tiles, lo, m, dtype, ending, info))
    choice = feeding.choice

    def emit(said: str) -> None:
        as_read, operands, why = fed(lo, m, dtype.itemsize, feeding, info)
        emit_tensor(lo, as_read, dtype, ending, operands, choice, said, why)

    return Candidate(choice.name, emit)


def _site(lo: CudaLowering, m: Matrices, dtype: np.dtype, ending: Ending) -> str:
    """Sizes, strides, and of addresses what they have to do with the width of copies."""
    batches = m.batch, m.left_batch, m.right_batch
    places = [(chunk_of(r.ref, ()), r.column, r.row, r.batch) for r in m.results]
    operands = chunk_of(m.left, ()), m.of_left, chunk_of(m.right, ()), m.of_right
    return f"product {dtype} {products_of(lo, dtype)} {m.m}x{m.n}x{m.k} {batches} {operands} {ending.expression} {ending.dtypes} {places}"


def _emit_tiles(lo: CudaLowering, m: Matrices, dtype: np.dtype, ending: Ending, info: StepInfo, said: str) -> None:
    """said: of the choice."""
    tile = tile_for(m.m, m.n, prod(m.batch), summed(dtype).itemsize)
    tiles_m, tiles_n = -(-m.m // tile.m), -(-m.n // tile.n)
    args = PRODUCT(
        grid=tiles_m * tiles_n * prod(m.batch), tiles_m=tiles_m, tiles_n=tiles_n,
        **side("left", tile.m, tile.k, tile.threads, *m.of_left),
        **side("right", tile.k, tile.n, tile.threads, *m.of_right),
        **words_of(m),
    )  # fmt: skip
    kernel = Product(dtype.name, tile, ending.expression, ending.dtypes)
    if dtype == np.float32:
        said = said or on_cores(lo, m, tile)
    _emit(lo, kernel, args, m, told(info, said), f"tiles of {tile}")


def _emit_thin(lo: CudaLowering, m: Matrices, dtype: np.dtype, ending: Ending, info: StepInfo) -> None:
    """Neighbouring threads read neighbours of the right matrix: columns of a row, or rows of a column."""
    (l_row, l_column), (r_row, r_column) = m.of_left, m.of_right
    down = abs(r_row) < abs(r_column)
    columns = THIN_THREADS // WARP if down else _thin_columns(m.m, m.n, prod(m.batch))
    slices = THIN_THREADS // columns
    blocks_n = -(-m.n // columns)
    shifts = (slices.bit_length() - 1, 0) if down else (0, columns.bit_length() - 1)
    args = THIN(
        grid=blocks_n * m.m * prod(m.batch), blocks_n=blocks_n, columns=columns, slices=slices,
        column_shift=shifts[0], slice_shift=shifts[1],
        left_row=l_row, left_column=l_column, right_row=r_row, right_column=r_column, **words_of(m),
    )  # fmt: skip
    kernel = ThinProduct(dtype.name, ending.expression, ending.dtypes)
    _emit(lo, kernel, args, m, info, "rows")


@for_speed
def _is_better_turned(m: int, n: int) -> bool:
    """Few columns are few rows of the turned product."""
    return n < m and n <= FLAT.m


@for_speed
def _thin_columns(m: int, n: int, batch: int) -> int:
    """Of a block: as many as a warp has threads, or fewer where that leaves multiprocessors without work."""
    columns = WARP
    while columns > NARROW and -(-n // columns) * m * batch < MULTIPROCESSORS:
        columns //= 2
    return columns


def _emit(
    lo: CudaLowering,
    kernel: Product | ThinProduct,
    args: list[Any],
    m: Matrices,
    info: StepInfo,
    how: str,
) -> None:
    lo.emit(kernel, args, replace(info, kernel=str(example(kernel)), algorithm=how), writes=[m.results[0].ref])

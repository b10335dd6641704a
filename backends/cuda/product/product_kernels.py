"""Matrix products of any dtype: tiles in shared memory, and thin ones."""

from __future__ import annotations

from numba import cuda
from numba.cuda.types import int32

from graphc.backends.cuda.codegen.device import load, register, word
from graphc.backends.cuda.codegen.threads import thread, thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.product.product_block import (
    PARTS,
    PRODUCT,
    THIN,
    THIN_THREADS,
    PartSums,
    Product,
    ThinProduct,
)
from graphc.backends.cuda.product.run_kernels import add_runs, finish_run, read_run
from graphc.backends.cuda.product.tile import Run, Tile
from graphc.backends.cuda.product.tile_kernels import batch_indices, finish, place_of_block, start, taken, tiled
from graphc.expr import Expr
from graphc.types import dtype_from_name


@makes(Product)
def product(dtype: str, tile: Tile, expression: Expr, operands: tuple[str, ...]) -> Code:
    return tiled(PRODUCT, False, dtype, tile, expression, operands)


@makes(ThinProduct)
def thin_product(dtype: str, expression: Expr, operands: tuple[str, ...]) -> Code:
    kind = register(summed(dtype_from_name(dtype)))
    BLOCKS_N, M, N, K, DIMS = THIN["blocks_n m n k dims"]
    L_ROW, L_COLUMN, R_ROW, R_COLUMN = THIN["left_row left_column right_row right_column"]
    COLUMNS, SLICES, COLUMN_SHIFT, SLICE_SHIFT = THIN["columns slices column_shift slice_shift"]
    get, store = load(dtype), finish(THIN, expression, operands)
    left_start, right_start = start(THIN, "left"), start(THIN, "right")

    def thin_product(a):
        parts = cuda.shared.array(THIN_THREADS, kind)
        n, k = int32(word(a, N)), int32(word(a, K))
        columns, slices = int32(word(a, COLUMNS)), int32(word(a, SLICES))
        column_shift, slice_shift = int32(word(a, COLUMN_SHIFT)), int32(word(a, SLICE_SHIFT))
        t = int32(thread())
        column_block, row, b0, b1, b2, b3 = place_of_block(a, BLOCKS_N, M, DIMS)
        column0 = int32(column_block * columns)
        column = int32(column0 + ((t >> column_shift) & (columns - 1)))
        part = int32((t >> slice_shift) & (slices - 1))
        total = kind(0)
        if column < n:
            left_column, right_row = word(a, L_COLUMN), word(a, R_ROW)
            left = left_start(a, b0, b1, b2, b3) + row * word(a, L_ROW) + part * left_column
            right = right_start(a, b0, b1, b2, b3) + column * word(a, R_COLUMN) + part * right_row
            left_column *= slices
            right_row *= slices
            while part < k:
                total = kind(total + get(left) * get(right))
                left += left_column
                right += right_row
                part = int32(part + slices)
        parts[t] = total
        cuda.syncthreads()
        column = int32(column0 + t)
        if (t < columns) & (column < n):
            total = kind(0)
            at = int32(t << column_shift)
            for _ in range(slices):
                total = kind(total + parts[at])
                at = int32(at + (1 << slice_shift))
            store(a, True, column, 0, 0, row, b0, b1, b2, b3, total)

    return Code(thin_product, THIN_THREADS)


@makes(PartSums)
def part_sums(expression: Expr, operands: tuple[str, ...], run: Run) -> Code:
    RUNS, WIDTH, ROWS, SOURCE, COUNT, BYTES, DIMS = PARTS["runs width rows source parts part_bytes dims"]
    RUN, RUN_BYTES = run.count, 4 * run.count
    get, add, finish = read_run(RUN), add_runs(RUN), finish_run(PARTS, expression, operands, run)

    def part_sums(a):
        number = int32(thread_number(THREADS))
        if number < word(a, RUNS):
            column, rest = taken(a, WIDTH, number)
            row, rest = taken(a, ROWS, rest)
            b0, b1, b2, b3 = batch_indices(a, DIMS, rest)
            at, step = word(a, SOURCE) + number * RUN_BYTES, word(a, BYTES)
            totals = get(at)
            for _ in range(1, int32(word(a, COUNT))):
                at += step
                totals = add(totals, get(at))
            finish(a, True, int32(column * RUN), row, b0, b1, b2, b3, totals)

    return Code(part_sums, THREADS)

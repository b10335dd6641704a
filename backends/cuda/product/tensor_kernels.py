"""Products on tensor cores: a pipeline of asynchronous copies in front of mma.sync.

In shared memory a line of a tile has its 16-byte chunks in another order, which the line's number says, so that neither copies
nor the reads of a warp meet in a bank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic
from numba.cuda.types import float32, int32, uint8

from graphc.backends.cuda.codegen.device import device, word
from graphc.backends.cuda.codegen.ptx import (
    commit,
    copy_ahead,
    ldmatrix,
    mma,
    rounded,
    shared_address,
    shared_word,
    wait_until,
)
from graphc.backends.cuda.codegen.threads import thread
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.product.product_block import TENSOR, TensorProduct
from graphc.backends.cuda.product.tile import DEPTH, WarpTile
from graphc.backends.cuda.product.tile_kernels import copier, finish, place_of_block, start
from graphc.backends.llvm.emit import F32, I32
from graphc.expr import Expr

CHUNK = 16  # bytes of a row of a matrix that ldmatrix reads
STEP = 32  # bytes of a row that one instruction multiplies


@makes(TensorProduct)
def tensor_product(
    dtype: str,
    tile: WarpTile,
    left_chunk: int,
    right_chunk: int,
    across: bool,
    expression: Expr,
    operands: tuple[str, ...],
    products: int,
) -> Code:
    item = 4 if dtype == "float32" else 2
    TILES_M, TILES_N, M, N, K, DIMS, LEFT_LINE, RIGHT_LINE = TENSOR["tiles_m tiles_n m n k dims left_line right_line"]
    BM, BN, WM, WN, STAGES, THREADS = tile.m, tile.n, tile.wm, tile.wn, tile.stages, tile.threads
    ROW = DEPTH * item  # bytes of a line of the left tile
    LINE = BN * item if across else ROW  # of the right one
    LEFT_BYTES, RIGHT_BYTES = BM * ROW, BN * ROW
    STAGE = LEFT_BYTES + RIGHT_BYTES
    L_PARTS, R_PARTS = ROW // left_chunk, LINE // right_chunk  # of a line
    L_LINES, R_LINES = THREADS // L_PARTS, THREADS // R_PARTS  # that all threads copy at once
    L_PASSES, R_PASSES = BM // L_LINES, (DEPTH if across else BN) // R_LINES
    ROWS, COLUMNS, PER_ROW = WM // 16, WN // 8, BN // WN
    SUMS = ROWS * COLUMNS * 4
    copy_left, copy_right = copy_ahead(left_chunk), copy_ahead(right_chunk)
    wait, copy = wait_until(STAGES - 2), copier(SUMS)
    shift = _order(ROW, False, item)
    right_shift = _order(LINE, across, item)
    multiply, store = _warp_product(ROWS, COLUMNS, LINE, across, dtype, products), finish(TENSOR, expression, operands)
    left_start, right_start = start(TENSOR, "left"), start(TENSOR, "right")

    def tensor_product(a):
        memory = shared_address(cuda.shared.array(0, uint8, alignment=128))
        sums = cuda.local.array(SUMS, float32)
        found = cuda.local.array(SUMS, float32)
        m, n, k = int32(word(a, M)), int32(word(a, N)), int32(word(a, K))
        t = int32(thread())
        lane, warp = int32(t & 31), int32(t >> 5)
        column_tile, row_tile, b0, b1, b2, b3 = place_of_block(a, TILES_N, TILES_M, DIMS)
        column0, row0 = int32(column_tile * BN), int32(row_tile * BM)
        left_line, right_line = word(a, LEFT_LINE), word(a, RIGHT_LINE)

        # what this thread copies: a part of every L_LINES-th line
        l_line, l_part = int32(t // L_PARTS), int32(t % L_PARTS * left_chunk)
        left = left_start(a, b0, b1, b2, b3) + (row0 + l_line) * left_line + l_part
        l_step = L_LINES * left_line
        l_bytes = int32(k * item - l_part)  # from there to the row's end
        r_line, r_part = int32(t // R_PARTS), int32(t % R_PARTS * right_chunk)
        right = right_start(a, b0, b1, b2, b3) + r_line * right_line + r_part
        r_step = R_LINES * right_line
        if across:
            right += column0 * item
            r_bytes, r_first, r_end = int32((n - column0) * item - r_part), r_line, k
        else:
            right += column0 * right_line
            r_bytes, r_first, r_end = int32(k * item - r_part), int32(column0 + r_line), n

        for i in range(SUMS):
            sums[i] = float32(0)
        steps = int32((k + DEPTH - 1) // DEPTH)
        to, of = memory, memory
        end = int32(memory + STAGES * STAGE)
        step = int32(1 - STAGES)
        while step < steps:
            if step >= 0:
                wait()
                cuda.syncthreads()
            if step + STAGES - 1 < steps:
                given = int32(min(max(l_bytes, 0), left_chunk))
                for i in range(L_PASSES):
                    line = int32(l_line + i * L_LINES)
                    at = int32(to + line * ROW + ((l_part & -CHUNK) ^ shift(line)) + (l_part & (CHUNK - 1)))
                    copy_left(at, left + i * l_step, given if row0 + line < m else 0)
                left += ROW
                l_bytes = int32(l_bytes - ROW)
                given = int32(min(max(r_bytes, 0), right_chunk))
                for i in range(R_PASSES):
                    line = int32(r_line + i * R_LINES)
                    at = int32(to + LEFT_BYTES + line * LINE + ((r_part & -CHUNK) ^ right_shift(line)))
                    at = int32(at + (r_part & (CHUNK - 1)))
                    copy_right(at, right + i * r_step, given if r_first + i * R_LINES < r_end else 0)
                if across:
                    right += DEPTH * right_line
                    r_first = int32(r_first + DEPTH)
                else:
                    right += ROW
                    r_bytes = int32(r_bytes - ROW)
                to = int32(to + STAGE)
                if to == end:
                    to = memory
            commit()
            if step >= 0:
                multiply(
                    sums, int32(of + warp // PER_ROW * WM * ROW), int32(of + LEFT_BYTES), warp % PER_ROW * WN, lane
                )
                of = int32(of + STAGE)
                if of == end:
                    of = memory
            step = int32(step + 1)

        copy(found, sums)
        first_row = int32(row0 + warp // PER_ROW * WM + (lane >> 2))
        first_column = int32(column0 + warp % PER_ROW * WN + (lane & 3) * 2)
        for i in range(ROWS):
            for j in range(COLUMNS):
                for e in range(4):
                    r, c = int32(first_row + i * 16 + e // 2 * 8), int32(first_column + j * 8 + e % 2)
                    store(a, (r < m) & (c < n), c, 0, 0, r, b0, b1, b2, b3, found[(i * COLUMNS + j) * 4 + e])

    return Code(tensor_product, THREADS, STAGES * STAGE)


def _swizzle(b: ir.IRBuilder, line: ir.Value, nbytes: int, across: bool, item: int) -> ir.Value:
    """What the chunks' byte offsets in a line are xored with. nbytes: of a line."""
    if across and item == 4:  # a warp reads words, of 4 lines
        return b.shl(b.and_(line, I32(3)), I32(5))
    if nbytes == 64:
        return b.shl(b.and_(b.lshr(line, I32(1)), I32(3)), I32(4))
    return b.shl(b.and_(line, I32(7)), I32(4))


def _order(nbytes: int, across: bool, item: int) -> Callable[[int], int]:
    return device(lambda q, a: _swizzle(q.b, a[0], nbytes, across, item), types.int32, types.int32)


def _warp_product(
    rows: int, columns: int, line: int, across: bool, dtype: str, products: int = 3
) -> Callable[..., None]:
    """multiply(sums, left, right, column, lane): sums[(i * columns + j) * 4 + e] += the product of 16 * rows rows of the tile at
    `left` and of 8 * columns columns, from `column` on, of the tile at `right`. line: bytes of a line of the right tile; products: of the
    digits of float32, 3 or 1."""
    item = 4 if dtype == "float32" else 2
    row_bytes = DEPTH * item

    @intrinsic
    def multiply(typing: Any, sums: Any, left: Any, right: Any, column: Any, lane: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            data = context.make_array(signature.args[0])(context, b, value=args[0]).data
            kept = [b.gep(data, [I32(i)]) for i in range(rows * columns * 4)]
            totals = [b.load(p) for p in kept]
            left, right, column, lane = args[1:]

            def chunk(base: ir.Value, at: ir.Value, byte: ir.Value, nbytes: int, turned: bool) -> ir.Value:
                order = _swizzle(b, at, nbytes, turned, item)
                return b.add(b.add(base, b.mul(at, I32(nbytes))), b.xor(byte, order))

            def lefts(step: int) -> list[list[ir.Value]]:
                at = b.and_(lane, I32(15))
                byte = b.add(b.shl(b.lshr(lane, I32(4)), I32(4)), I32(STEP * step))
                first = chunk(left, at, byte, row_bytes, False)
                return [ldmatrix(b, b.add(first, I32(16 * i * row_bytes))) for i in range(rows)]

            def rights_down(step: int) -> list[list[ir.Value]]:
                at = b.add(b.and_(lane, I32(7)), b.shl(b.lshr(lane, I32(4)), I32(3)))
                byte = b.add(b.shl(b.and_(b.lshr(lane, I32(3)), I32(1)), I32(4)), I32(STEP * step))
                first = chunk(right, b.add(column, at), byte, row_bytes, False)
                pairs = [ldmatrix(b, b.add(first, I32(16 * j * row_bytes))) for j in range(columns // 2)]
                return [half for four in pairs for half in (four[:2], four[2:])]

            def rights_across(step: int) -> list[list[ir.Value]]:
                at = b.add(b.and_(lane, I32(15)), I32(16 * step))
                found = []
                for j in range(columns // 2):
                    place = b.add(b.add(column, I32(16 * j)), b.shl(b.lshr(lane, I32(4)), I32(3)))
                    four = ldmatrix(b, chunk(right, at, b.mul(place, I32(item)), line, True), transposed=True)
                    found += [four[:2], four[2:]]
                return found

            def rights_of_words(step: int) -> list[list[ir.Value]]:
                at = [b.add(b.and_(lane, I32(3)), I32(8 * step + 4 * h)) for h in range(2)]
                places = [b.add(b.add(column, I32(8 * j)), b.lshr(lane, I32(2))) for j in range(columns)]
                return [
                    [shared_word(b, chunk(right, k, b.mul(place, I32(item)), line, True)) for k in at]
                    for place in places
                ]

            rights = rights_down if not across else rights_of_words if item == 4 else rights_across
            for step in range(row_bytes // STEP):
                terms = [(lefts(step), rights(step))]
                if item == 4 and products == 1:
                    terms = [tuple(_first_digits(b, g) for g in terms[0])]
                elif item == 4:
                    (l_large, l_finite, l_small), (r_large, r_finite, r_small) = (_digits(b, g) for g in terms[0])
                    terms = [(l_small, r_finite), (l_finite, r_small), (l_large, r_large)]
                for of_left, of_right in terms:
                    for i in range(rows):
                        for j in range(columns):
                            at = (i * columns + j) * 4
                            totals[at : at + 4] = mma(b, dtype, of_left[i], of_right[j], totals[at : at + 4])
            for pointer, value in zip(kept, totals):
                b.store(value, pointer)
            return context.get_dummy_value()

        return types.void(sums, types.int32, types.int32, types.int32, types.int32), code

    made: Callable[..., None] = multiply
    return made


Groups = list[list[ir.Value]]


def _first_digits(b: ir.IRBuilder, groups: Sequence[Sequence[ir.Value]]) -> Groups:
    return [[rounded(b, b.bitcast(x, F32)) for x in group] for group in groups]


def _digits(b: ir.IRBuilder, groups: Sequence[Sequence[ir.Value]]) -> tuple[Groups, Groups, Groups]:
    """The first digits of float32s, the same with 0 for infinities and NaN, and what is left of finite ones."""
    zero, infinity, minus = (ir.Constant(F32, x) for x in (0.0, float("inf"), float("-inf")))
    large: Groups = []
    finite: Groups = []
    small: Groups = []
    for group in groups:
        first = [rounded(b, b.bitcast(x, F32)) for x in group]
        rest = [b.fsub(b.bitcast(x, F32), b.bitcast(f, F32)) for x, f in zip(group, first)]
        whole = [b.and_(b.fcmp_ordered("<", r, infinity), b.fcmp_ordered(">", r, minus)) for r in rest]
        large.append(first)
        finite.append([b.select(w, f, I32(0)) for w, f in zip(whole, first)])
        small.append([rounded(b, b.select(w, r, zero)) for w, r in zip(whole, rest)])
    return large, finite, small

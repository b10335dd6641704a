"""Tiles of a product in shared memory: of two matrices, or of weights and the windows of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic
from numba.cuda.types import int32, uint32

from graphc.backends.cuda.codegen.device import device, register, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import divide, load_where, truth
from graphc.backends.cuda.codegen.loops import place
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.kernel import Code
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.product.product_block import BATCH
from graphc.backends.cuda.product.tile import Tile
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import I32
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.types import dtype_from_name

PAD = 4  # elements between rows of a tile: threads that write down a column meet other banks
FAR = -(1 << 30)  # a position from which no window reaches an image


@cuda.jit(device=True)
def taken(a, size, number):
    """(number % size, number / size), where word `size` has the size."""
    by = int32(word(a, size))
    rest = divide(number, by)
    return int32(number - rest * by), rest


@cuda.jit(device=True)
def batch_indices(a, dims, number):
    """Four indices, innermost first. dims: the word of the innermost one's extent."""
    b0, rest = taken(a, dims, number)
    b1, rest = taken(a, dims + 1, rest)
    b2, b3 = taken(a, dims + 2, rest)
    return b0, b1, b2, b3


@cuda.jit(device=True)
def place_of_block(a, columns, rows, dims):
    """(column, row, four batch indices) of this block's part of the result. columns, rows: the words that say how many parts
    there are in a row and in a column; dims: the first of the batch dims'."""
    column, rest = taken(a, columns, int32(block()))
    row, rest = taken(a, rows, rest)
    b0, b1, b2, b3 = batch_indices(a, dims, rest)
    return column, row, b0, b1, b2, b3


def finish(words: Block, expression: Expr, operands: Sequence[str]) -> Callable[..., None]:
    """finish(a, inside, w, h, d, row, b0, b1, b2, b3, total): the sum's expression goes where the result has that place, if
    it is inside. Places are computed in any case, so that a thread's many calls share what they have in common."""
    columns, row, batch, ref = words.in_record("columns row batch ref")
    assert (row, batch) == (columns + 3, columns + 4)
    kinds = [expression.dtype, *map(dtype_from_name, operands)]

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        args, inside, at, total = q.pointer(a[0]), truth(q, a[1]), a[2:-1], a[-1]
        records = [words.size + words.record_size * i for i in range(len(kinds))]
        to, *others = (place(q, q.slot(args, r + ref), at, args, r + columns) for r in records)
        with q.b.if_then(inside):
            values = [q.load(q.pointer(x), kind, 1) for x, kind in zip(others, kinds[1:])]
            q.store(expr_code.emit(q, expression, [total, *values], 1), q.pointer(to), kinds[0], 1)

    places = [types.int64] * (4 + BATCH)
    return device(emit, types.void, types.int64, types.boolean, *places, register(_sum_dtype(expression)))


def copier(count: int) -> Callable[..., None]:
    """copy(to, source): of local arrays, at constant places. So `source` stays in registers, whatever becomes of `to`: the
    loop over an ending may be too long to be unrolled."""

    @intrinsic
    def copy(typing: Any, to: Any, source: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            target, data = (context.make_array(t)(context, b, value=x).data for t, x in zip(signature.args, args))
            for i in range(count):
                b.store(b.load(b.gep(data, [I32(i)])), b.gep(target, [I32(i)]))
            return context.get_dummy_value()

        return types.void(to, source), code

    made: Callable[..., None] = copy
    return made


def start(words: Block, name: str) -> Callable[..., int]:
    """start(a, b0, b1, b2, b3): where an operand's matrix of the batch begins."""
    ref, batch = words[f"{name} {name}_batch"]

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        args = q.pointer(a[0])
        return place(q, q.slot(args, ref), a[1:], args, batch)

    return device(emit, types.int64, *[types.int64] * (1 + BATCH))


def _sum_dtype(e: Expr) -> Any:
    """Of argument 0, or of the result where the expression does not read it."""
    found = [x.dtype for x in _leaves(e) if x.prim == "arg" and x.index == 0]
    return found[0] if found else summed(e.dtype)


def _leaves(e: Expr) -> list[Expr]:
    return [x for a in e.args for x in _leaves(a)] if e.args else [e]


def tiled(words: Block, windows: bool, dtype: str, tile: Tile, expression: Expr, operands: Sequence[str]) -> Code:
    """The kernel of one tile of the result, with two tiles of each operand in shared memory: one is filled while the other is
    multiplied. windows: the right operand is read by the table of a convolution's block."""
    kind = register(summed(dtype_from_name(dtype)))
    TILES_M, TILES_N, M, N, K, DIMS = words["tiles_m tiles_n m n k dims"]
    L_ROW, L_COLUMN, L_ROW_SHIFT, L_COLUMN_SHIFT, L_ROWS, L_COLUMNS, L_STEP = words[
        "left_row left_column left_row_shift left_column_shift left_rows left_columns left_step"
    ]
    R_ROW, R_COLUMN, R_ROW_SHIFT, R_COLUMN_SHIFT, R_ROWS, R_COLUMNS, R_STEP = words[
        "right_row right_column right_row_shift right_column_shift right_rows right_columns right_step"
    ]
    if windows:
        TABLE, IN_D, IN_H, IN_W, OUT_H, OUT_W = words["table in_d in_h in_w out_h out_w"]
        S_D, S_H, S_W, P_D, P_H, P_W, X_D, X_H, X_W = words["s_d s_h s_w p_d p_h p_w x_d x_h x_w"]
    BM, BN, BK, TM, TN, THREADS = tile.m, tile.n, tile.k, tile.tm, tile.tn, tile.threads
    ACROSS = (BN // TN).bit_length() - 1  # log2 of the threads along a row of the tile
    MASK = BN // TN - 1
    GROUP_M, GROUP_N = 4 * (BM // TM), 4 * (BN // TN)  # four neighbours of a thread's rows, then the next four
    LEFTS, RIGHTS, SUMS = BM * BK // THREADS, BK * BN // THREADS, TM * TN
    LEFT_TILE, RIGHT_TILE = (2, BK, BM + PAD), (2, BK, BN + PAD)
    DEPTH = BK.bit_length() - 1
    load, store, copy = load_where(dtype), finish(words, expression, operands), copier(SUMS)
    left_start, right_start = start(words, "left"), start(words, "right")

    def tiled(a):
        lefts = cuda.shared.array(LEFT_TILE, kind, alignment=16)
        rights = cuda.shared.array(RIGHT_TILE, kind, alignment=16)
        next_left = cuda.local.array(LEFTS, kind)
        next_right = cuda.local.array(RIGHTS, kind)
        left = cuda.local.array(TM, kind)
        right = cuda.local.array(TN, kind)
        sums = cuda.local.array(SUMS, kind)
        found = cuda.local.array(SUMS, kind)
        m, n, k = int32(word(a, M)), int32(word(a, N)), int32(word(a, K))
        t = int32(thread())
        column_tile, row_tile, b0, b1, b2, b3 = place_of_block(a, TILES_N, TILES_M, DIMS)
        column0, row0 = int32(column_tile * BN), int32(row_tile * BM)

        # the elements that this thread fetches
        l_rows, l_columns, l_step = int32(word(a, L_ROWS)), int32(word(a, L_COLUMNS)), word(a, L_STEP)
        l_row = int32((t >> int32(word(a, L_ROW_SHIFT))) & (BM - 1))
        l_column = int32((t >> int32(word(a, L_COLUMN_SHIFT))) & (BK - 1))
        l_at = left_start(a, b0, b1, b2, b3) + (row0 + l_row) * word(a, L_ROW) + l_column * word(a, L_COLUMN)
        l_next = BK * word(a, L_COLUMN)
        r_rows, r_columns, r_step = int32(word(a, R_ROWS)), int32(word(a, R_COLUMNS)), word(a, R_STEP)
        r_row = int32((t >> int32(word(a, R_ROW_SHIFT))) & (BK - 1))
        r_column = int32((t >> int32(word(a, R_COLUMN_SHIFT))) & (BN - 1))
        r_at = right_start(a, b0, b1, b2, b3)
        if windows:
            out_w, out_h = int32(word(a, OUT_W)), int32(word(a, OUT_H))
            in_d, in_h, in_w = uint32(word(a, IN_D)), uint32(word(a, IN_H)), uint32(word(a, IN_W))
            c = int32(column0 + r_column)
            line = divide(c, out_w)
            plane = divide(line, out_h)
            w = int32(int32(c - line * out_w) * word(a, S_W) - word(a, P_W))
            h = int32(int32(line - plane * out_h) * word(a, S_H) - word(a, P_H))
            d = int32(plane * word(a, S_D) - word(a, P_D))
            r_at += d * word(a, X_D) + h * word(a, X_H) + w * word(a, X_W)
            if c >= n:
                w = int32(FAR)
            table = word(a, TABLE) + r_row * 24
            r_next, r_each = BK * 24, 24 * r_rows
        else:
            r_at += r_row * word(a, R_ROW) + (column0 + r_column) * word(a, R_COLUMN)
            r_next = BK * word(a, R_ROW)

        for i in range(SUMS):
            sums[i] = kind(0)
        steps = int32((k + BK - 1) >> DEPTH)
        k0 = int32(0)
        step = int32(-1)
        while step < steps:
            # fetch the next tile, multiply this one, keep the next
            if step + 1 < steps:
                for i in range(LEFTS):
                    inside = (row0 + l_row + i * l_rows < m) & (k0 + l_column + i * l_columns < k)
                    next_left[i] = load(inside, l_at + i * l_step)
                l_at += l_next
                if windows:
                    for i in range(RIGHTS):
                        entry = table + i * r_each
                        there, place = word(entry, 0), word(entry, 1)
                        inside = uint32(w + int32(place)) < in_w
                        inside &= uint32(h + int32(place >> 32)) < in_h
                        inside &= uint32(d + int32(word(entry, 2))) < in_d
                        next_right[i] = load(inside, r_at + there)
                    table += r_next
                else:
                    for i in range(RIGHTS):
                        inside = (k0 + r_row + i * r_rows < k) & (column0 + r_column + i * r_columns < n)
                        next_right[i] = load(inside, r_at + i * r_step)
                    r_at += r_next
                k0 = int32(k0 + BK)
            if step >= 0:
                now = step & 1
                x, y = int32((t & MASK) * 4), int32((t >> ACROSS) * 4)
                for kk in range(BK):
                    for i in range(TM):
                        left[i] = lefts[now, kk, y + i // 4 * GROUP_M + i % 4]
                    for j in range(TN):
                        right[j] = rights[now, kk, x + j // 4 * GROUP_N + j % 4]
                    for i in range(TM):
                        for j in range(TN):
                            sums[i * TN + j] = kind(sums[i * TN + j] + left[i] * right[j])
            step = int32(step + 1)
            if step < steps:
                now = step & 1
                for i in range(LEFTS):
                    lefts[now, l_column + i * l_columns, l_row + i * l_rows] = next_left[i]
                for i in range(RIGHTS):
                    rights[now, r_row + i * r_rows, r_column + i * r_columns] = next_right[i]
                cuda.syncthreads()

        copy(found, sums)
        x, y = int32((t & MASK) * 4), int32((t >> ACROSS) * 4)
        for j in range(TN):
            c = int32(column0 + x + j // 4 * GROUP_N + j % 4)
            h, d = int32(0), int32(0)
            w = c
            if windows:
                line = divide(c, out_w)
                d = divide(line, out_h)
                w = int32(c - line * out_w)
                h = int32(line - d * out_h)
            for i in range(TM):
                r = int32(row0 + y + i // 4 * GROUP_M + i % 4)
                store(a, (c < n) & (r < m), w, h, d, r, b0, b1, b2, b3, found[i * TN + j])

    return Code(tiled, THREADS)

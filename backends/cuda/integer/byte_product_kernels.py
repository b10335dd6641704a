"""Products of bytes in tiles: words of four bytes in shared memory, which a thread takes apart for as many products as
it has rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.types import int32

from graphc.backends.cuda.codegen.device import device, store, word
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.codegen.guarded import divide, load_where
from graphc.backends.cuda.codegen.runs import run_of
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.integer.byte_product_block import BYTE_PRODUCT, WORD, ByteProduct
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.product.tile import Tile
from graphc.backends.llvm.emit import I32

PAD = 4  # words between rows of a tile
TILES_M, TILES_N, M, N, K, LEFT, RIGHT, Y = BYTE_PRODUCT["tiles_m tiles_n m n k left right y"]
LEFT_ROW, RIGHT_ROW, DIMS, LEFT_BATCH, RIGHT_BATCH = BYTE_PRODUCT["left_row right_row dims left_batch right_batch"]


def _dot(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
    b, (total, left, right) = q.b, a
    for i in range(WORD):
        shift, up, most = (ir.Constant(I32, n) for n in (8 * i, 24 - 8 * i, 24))
        unsigned = b.and_(b.lshr(left, shift), ir.Constant(I32, 255))
        total = b.add(total, b.mul(unsigned, b.ashr(b.shl(right, up), most)))
    return total


# dot(total, left, right): total plus the products of four unsigned bytes and four signed ones
dot = device(_dot, types.int32, types.int32, types.int32, types.int32)
fetch, put, four_at = load_where("int32"), store("int32"), run_of("int32", 4)


@makes(ByteProduct)
def byte_product(tile: Tile) -> Code:
    """As `tiled` of products: a thread has groups of four rows and of four columns."""
    BM, BN, BK, TM, TN, THREADS = tile.m, tile.n, tile.k, tile.tm, tile.tn, tile.threads
    ACROSS = BN // TN
    ROWS, COLUMNS = BM // TM * 4, ACROSS * 4  # from a group to the thread's next
    LEFTS, RIGHTS, SUMS = BM * BK // THREADS, BK * BN // THREADS, TM * TN
    LEFT_PITCH, RIGHT_PITCH = BM + PAD, BN + PAD
    LEFT_TILE, RIGHT_TILE = BK * LEFT_PITCH, BK * RIGHT_PITCH
    LEFT_DOWN, RIGHT_DOWN = THREADS // BK, THREADS // BN

    def byte_product(a):
        lefts = cuda.shared.array(LEFT_TILE, int32, alignment=16)
        rights = cuda.shared.array(RIGHT_TILE, int32, alignment=16)
        next_left = cuda.local.array(LEFTS, int32)
        next_right = cuda.local.array(RIGHTS, int32)
        left = cuda.local.array(TM, int32)
        right = cuda.local.array(TN, int32)
        sums = cuda.local.array(SUMS, int32)
        m, n, k = int32(word(a, M)), int32(word(a, N)), int32(word(a, K))
        t, number = int32(thread()), int32(block())

        # which tile of which matrix
        tiles = int32(word(a, TILES_N))
        rest = divide(number, tiles)
        column0 = int32((number - rest * tiles) * BN)
        tiles = int32(word(a, TILES_M))
        matrix = divide(rest, tiles)
        row0 = int32((rest - matrix * tiles) * BM)
        l_at, r_at, z = word(a, LEFT), word(a, RIGHT), matrix
        for d in range(4):
            size = int32(word(a, DIMS + d))
            up = divide(z, size)
            at = int32(z - up * size)
            l_at += at * word(a, LEFT_BATCH + d)
            r_at += at * word(a, RIGHT_BATCH + d)
            z = up

        # the words that this thread fetches
        l_column, l_row = int32(t & (BK - 1)), int32(divide(t, int32(BK)))
        r_column, r_row = int32(t & (BN - 1)), int32(divide(t, int32(BN)))
        left_row, right_row = word(a, LEFT_ROW), word(a, RIGHT_ROW)
        l_at += (row0 + l_row) * left_row + l_column * WORD
        r_at += r_row * right_row + (column0 + r_column) * WORD
        x, y = int32((t & (ACROSS - 1)) * 4), int32(divide(t, int32(ACROSS)) * 4)
        for i in range(SUMS):
            sums[i] = int32(0)
        for i in range(LEFTS):
            inside = (row0 + l_row + i * LEFT_DOWN < m) & (l_column < k)
            next_left[i] = fetch(inside, l_at + i * LEFT_DOWN * left_row)
        for i in range(RIGHTS):
            inside = (r_row + i * RIGHT_DOWN < k) & (column0 + r_column < n)
            next_right[i] = fetch(inside, r_at + i * RIGHT_DOWN * right_row)
        k0 = int32(0)
        while k0 < k:
            for i in range(LEFTS):
                lefts[l_column * LEFT_PITCH + l_row + i * LEFT_DOWN] = next_left[i]
            for i in range(RIGHTS):
                rights[(r_row + i * RIGHT_DOWN) * RIGHT_PITCH + r_column] = next_right[i]
            cuda.syncthreads()
            # the next tile is under way while this one is multiplied
            k0 = int32(k0 + BK)
            l_at += BK * WORD
            r_at += BK * right_row
            for i in range(LEFTS):
                inside = (row0 + l_row + i * LEFT_DOWN < m) & (k0 + l_column < k)
                next_left[i] = fetch(inside, l_at + i * LEFT_DOWN * left_row)
            for i in range(RIGHTS):
                inside = (k0 + r_row + i * RIGHT_DOWN < k) & (column0 + r_column < n)
                next_right[i] = fetch(inside, r_at + i * RIGHT_DOWN * right_row)
            for kk in range(BK):
                for i in range(TM // 4):
                    four = four_at(lefts, kk * LEFT_PITCH + y + i * ROWS)
                    for c in range(4):
                        left[4 * i + c] = four[c]
                for j in range(TN // 4):
                    four = four_at(rights, kk * RIGHT_PITCH + x + j * COLUMNS)
                    for c in range(4):
                        right[4 * j + c] = four[c]
                for i in range(TM):
                    for j in range(TN):
                        sums[i * TN + j] = dot(sums[i * TN + j], left[i], right[j])
            cuda.syncthreads()

        to = word(a, Y) + matrix * (word(a, M) * word(a, N) * WORD)
        for i in range(TM):
            row = int32(row0 + y + i // 4 * ROWS + i % 4)
            for j in range(TN):
                column = int32(column0 + x + j // 4 * COLUMNS + j % 4)
                if (row < m) & (column < n):
                    put(to + (row * word(a, N) + column) * WORD, sums[i * TN + j])

    return Code(byte_product, THREADS)

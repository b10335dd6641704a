"""Products with weights of 4 or 8 bits, tile by tile of columns: all rows read a tile while it is in the caches."""

from __future__ import annotations

from graphc.backends.cpu.blocks.block_product_block import BLOCK_PRODUCT, ROUND_ROWS, BlockProduct, RoundRows
from graphc.backends.cpu.codegen.intrinsics import STEP, block_address, call3, call5
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver

PACKED, A_TILE, W, S, Y, M, ROW_TILES, TILES = BLOCK_PRODUCT["packed a_tile w s y m row_tiles tiles"]
KERNEL, Y_ROW, TILE_W, TILE_S, TILE_Y = BLOCK_PRODUCT["kernel y_row tile_weights tile_scales tile_y"]
A, TO, TO_TILE, ROWS, TO_TILES, ROUND, A_ROW = ROUND_ROWS["a packed a_tile m row_tiles kernel a_row"]


@driver(BlockProduct)
def block_product(target, rows):
    def block_product(a, tid, nth):
        block, last = block_address(a), a[M] - rows
        begin, end = piece(a, a[TILES], nth, 0)
        while begin < end:
            for tile in range(begin, end):
                w, s, y = a[W] + tile * a[TILE_W], a[S] + tile * a[TILE_S], a[Y] + tile * a[TILE_Y]
                for row in range(a[ROW_TILES]):
                    to = y + min(row * rows, last) * a[Y_ROW]
                    call5(a[KERNEL], block, a[PACKED] + row * a[A_TILE], w, s, to)
            begin, end = piece(a, a[TILES], nth, end)

    return block_product, STEP


@driver(RoundRows)
def round_rows(target, rows):
    def round_rows(a, tid, nth):
        block, last = block_address(a), a[ROWS] - rows
        begin, end = piece(a, a[TO_TILES], nth, 0)
        while begin < end:
            for tile in range(begin, end):
                call3(a[ROUND], block, a[A] + min(tile * rows, last) * a[A_ROW], a[TO] + tile * a[TO_TILE])
            begin, end = piece(a, a[TO_TILES], nth, end)

    return round_rows, STEP

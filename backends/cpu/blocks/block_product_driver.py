"""Products with weights of 4 or 8 bits, tile by tile of columns: all rows read a tile while it is in the caches."""

from __future__ import annotations

from graphc.backends.cpu.blocks.block_product_block import BLOCK_PRODUCT, ROWS, BlockProduct
from graphc.backends.cpu.codegen.intrinsics import STEP, block_address, call5
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver

A, PACKED, A_TILE, W, S, Y, M = BLOCK_PRODUCT["a packed a_tile w s y m"]
TILES, MANY, ONE = BLOCK_PRODUCT["tiles many one"]
A_ROW, Y_ROW, TILE_W, TILE_S, TILE_Y = BLOCK_PRODUCT["a_row y_row tile_weights tile_scales tile_y"]


@driver(BlockProduct)
def block_product(target):
    """ROWS rows at a time, those that are left one by one."""

    def block_product(a, tid, nth):
        block, m, tiles = block_address(a), a[M], a[TILES]
        begin, end = piece(a, tiles, nth, 0)
        while begin < end:
            for tile in range(begin, end):
                w, s, y = a[W] + tile * a[TILE_W], a[S] + tile * a[TILE_S], a[Y] + tile * a[TILE_Y]
                row = 0
                while row + ROWS <= m:
                    call5(a[MANY], block, a[PACKED] + row // ROWS * a[A_TILE], w, s, y + row * a[Y_ROW])
                    row += ROWS
                while row < m:
                    call5(a[ONE], block, a[A] + row * a[A_ROW], w, s, y + row * a[Y_ROW])
                    row += 1
            begin, end = piece(a, tiles, nth, end)

    return block_product, STEP

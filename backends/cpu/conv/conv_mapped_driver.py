"""1x1 convolution of an elementwise expression: blocks of pixels by all tiles of output channels.

The first tile's kernel computes the expression for the pixels that it multiplies next, the other tiles find them in the
thread's scratch.
"""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call2, call7, store_i64
from graphc.backends.cpu.conv.conv_mapped_block import CONV_MAPPED, MAPPED_HEAD, MAPPED_TABLE, ConvMapped
from graphc.backends.cpu.conv.conv_row_block import CONV_ROW
from graphc.backends.cpu.conv.conv_row_block import OPERAND as MICRO_OPERAND
from graphc.backends.cpu.conv.row_block_njit import point_operand
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.dtypes import FLOAT32

MAP, FIRST, OTHERS, W, BIAS, Y = CONV_MAPPED["map first others w bias y"]
N, TILES, PIXELS, ITEM, MR, BLOCKS, BLOCK_STEP, VECTOR = CONV_MAPPED["n tiles pixels item mr blocks block_step vector"]
YS_N, YS_TILE, YS_PIXEL, WS_TILE, BIAS_TILE = CONV_MAPPED["ys_n ys_tile ys_pixel ws_tile bias_tile"]
SCRATCH, STRIDE, MICRO_BLOCK, OPERANDS, EPILOGUE_OPERANDS = CONV_MAPPED[
    "scratch stride template operands epilogue_operands"
]
RECORDS, RECORD = CONV_MAPPED.size, CONV_MAPPED.record_size
R_REF, R_N, R_BLOCK, R_PIXEL = CONV_MAPPED.in_record("ref n block pixel")

MICRO_COMING, MICRO_SOURCES = CONV_ROW["coming sources"]
MICRO_SLOTS = CONV_ROW.size


@driver(ConvMapped)
def conv_mapped(target):
    item_bytes = FLOAT32.item

    def conv_mapped(a, tid, nth):
        tiles, blocks, operands, epilogue_operands = a[TILES], a[BLOCKS], a[OPERANDS], a[EPILOGUE_OPERANDS]
        items = (a[PIXELS] + a[ITEM] - 1) // a[ITEM]
        block = a[SCRATCH] + tid * a[STRIDE]
        table, rows = block + MAPPED_TABLE, block + MAPPED_HEAD
        for i in range(MICRO_SLOTS):
            store_i64(block + 8 * i, a[MICRO_BLOCK + i])
        work = a[N] * items
        item, end = piece(a, work, nth, 0)
        while item < end:
            for k in range(item, end):
                n = k // items
                first = min((k - n * items) * a[ITEM], a[PIXELS] - a[ITEM])
                for i in range(operands):
                    r = RECORDS + RECORD * i
                    base = a[r + R_REF] + n * a[r + R_N] + first * a[r + R_PIXEL]
                    store_i64(block + 8 * (MICRO_SOURCES + MICRO_OPERAND * i), base)
                for c in range(blocks):
                    store_i64(table, rows + c * a[BLOCK_STEP])
                    for i in range(operands):
                        r = RECORDS + RECORD * i
                        base = a[r + R_REF] + n * a[r + R_N] + c * a[r + R_BLOCK] + first * a[r + R_PIXEL]
                        store_i64(table + 8 + 8 * i, base)
                    call2(a[MAP], a[MR] * a[VECTOR] // item_bytes, table)
                yn = a[Y] + n * a[YS_N] + first * a[YS_PIXEL]
                micro = a[FIRST]
                for tile in range(tiles):
                    for e in range(epilogue_operands):
                        r = RECORDS + RECORD * (operands + e)
                        base = a[r + R_REF] + n * a[r + R_N] + tile * a[r + R_BLOCK] + first * a[r + R_PIXEL]
                        point_operand(block, e, base)
                    w = a[W] + tile * a[WS_TILE]
                    store_i64(block + 8 * MICRO_COMING, w + a[WS_TILE])
                    call7(micro, block, rows, w, yn + tile * a[YS_TILE], a[BIAS] + tile * a[BIAS_TILE], 1, 1)
                    micro = a[OTHERS]
            item, end = piece(a, work, nth, end)

    return conv_mapped, STEP

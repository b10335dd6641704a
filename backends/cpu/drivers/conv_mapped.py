"""1x1 convolution of an elementwise expression: blocks of pixels by all tiles of output channels.

The first tile's kernel computes the expression for the pixels that it multiplies next, the other tiles find them in the
thread's scratch.
"""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call2, call7, store_i64
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.micro.conv import COMING as MICRO_COMING
from graphc.backends.cpu.micro.conv import EXTRA as MICRO_EXTRA
from graphc.backends.cpu.micro.conv import EXTRAS as MICRO_EXTRAS
from graphc.backends.cpu.micro.conv import MAPPED_HEAD, MAPPED_TABLE
from graphc.backends.cpu.micro.conv import SLOTS as MICRO_SLOTS
from graphc.backends.cpu.micro.conv import SOURCES as MICRO_SOURCES
from graphc.backends.cpu.micro.prologue import OPERAND as MICRO_OPERAND

# fmt: off
(MAP, FIRST, OTHERS, N, TILES, PIXELS, ITEM, MR, BLOCKS, BLOCK_STEP, VECTOR, W, BIAS, Y, YS_N, YS_TILE, YS_PIXEL, WS_TILE,
 BIAS_TILE, SCRATCH, STRIDE, OPERANDS, EXTRAS) = range(23)
# fmt: on
MICRO_BLOCK = 23  # template of the micro-kernel's argument block: its slots in micro/conv.py
RECORDS = MICRO_BLOCK + MICRO_SLOTS  # operands of the expression, then extra operands of the epilogue
RECORD = 4  # address, strides of image, channel block (or tile), pixel


@driver("conv_mapped")
def conv_mapped(target):
    """Strides in bytes. An item is ITEM pixels of an image (the last ones overlap those before), with all tiles; the mapped
    pixels are [channel block][pixel][VECTOR bytes] in the thread's scratch."""

    def conv_mapped(a, tid, nth):
        tiles, blocks, operands, extras = a[TILES], a[BLOCKS], a[OPERANDS], a[EXTRAS]
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
                    store_i64(block + 8 * (MICRO_SOURCES + MICRO_OPERAND * i), a[r] + n * a[r + 1] + first * a[r + 3])
                for c in range(blocks):
                    store_i64(table, rows + c * a[BLOCK_STEP])
                    for i in range(operands):
                        r = RECORDS + RECORD * i
                        store_i64(table + 8 + 8 * i, a[r] + n * a[r + 1] + c * a[r + 2] + first * a[r + 3])
                    call2(a[MAP], a[MR] * a[VECTOR] // 4, table)
                yn = a[Y] + n * a[YS_N] + first * a[YS_PIXEL]
                micro = a[FIRST]
                for tile in range(tiles):
                    for e in range(extras):
                        r = RECORDS + RECORD * (operands + e)
                        base = a[r] + n * a[r + 1] + tile * a[r + 2] + first * a[r + 3]
                        store_i64(block + 8 * (MICRO_EXTRAS + MICRO_EXTRA * e), base)
                    w = a[W] + tile * a[WS_TILE]
                    store_i64(block + 8 * MICRO_COMING, w + a[WS_TILE])
                    call7(micro, block, rows, w, yn + tile * a[YS_TILE], a[BIAS] + tile * a[BIAS_TILE], 1, 1)
                    micro = a[OTHERS]
            item, end = piece(a, work, nth, end)

    return conv_mapped, STEP

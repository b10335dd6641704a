"""Direct convolution: loops over images, row blocks and output-channel tiles around `conv_row`."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.intrinsics import STEP, call7, load_i64, store_i64
from graphc.backends.cpu.micro.conv import COMING as MICRO_COMING
from graphc.backends.cpu.micro.conv import EXTRA as MICRO_EXTRA
from graphc.backends.cpu.micro.conv import EXTRAS as MICRO_EXTRAS
from graphc.backends.cpu.micro.conv import FIRST_LANE as MICRO_FIRST_LANE
from graphc.backends.cpu.micro.conv import INPUT_END as MICRO_INPUT_END
from graphc.backends.cpu.micro.conv import INPUT_FIRST as MICRO_INPUT_FIRST
from graphc.backends.cpu.micro.conv import LANES as MICRO_LANES
from graphc.backends.cpu.micro.conv import PIXELS as MICRO_PIXELS
from graphc.backends.cpu.micro.conv import SLOTS as MICRO_SLOTS
from graphc.backends.cpu.micro.conv import YS_BLOCK as MICRO_YS_BLOCK
from graphc.backends.cpu.toolchain import driver

# fmt: off
(MICRO, X, W, BIAS, Y, N, XS_N, YS_N, TILES, OUT_D, OUT_H, OUT_W, K_D, K_H, S_D, S_H, D_D, D_H, P_D, P_H, IN_D, IN_H,
 XS_BLOCK, XS_D, XS_H, NV, YS_D, YS_H, WS_TILE, WS_D, WS_H, ROWS_PER_BLOCK, SPANS, FLAT, MR, XS_PIXEL, YS_PIXEL, SCRATCH,
 EXTRAS_COUNT, ROW_COMING, CHUNK, FIRST, MIDDLE, WS_BLOCK, STRIDE) = range(45)
# fmt: on
MICRO_BLOCK = 45  # template of the micro-kernel's argument block: its slots in micro/conv.py
EXTRAS = MICRO_BLOCK + MICRO_SLOTS  # then, an extra operand: address, strides of image, channel block, d, h, pixel
EXTRA = 6
SPAN = 8  # of each tile: first input block, their number, offset of its weights, first vector of outputs, lanes (`conv_row`)


@njit(error_model="numpy")
def window(start, dilation, kernel, size):
    """First and one past last position of a kernel, placed at `start`, that lie inside [0, size)."""
    k0 = 0
    if start < 0:
        k0 = (-start + dilation - 1) // dilation
    k1 = kernel
    if start + (kernel - 1) * dilation >= size:
        k1 = (size - 1 - start) // dilation + 1
    k0 = min(k0, kernel)
    return k0, max(k1, k0)


@driver("conv")
def conv(target):
    """Strides in bytes. SPANS: address of a table of what each tile reads and makes (grouped convolution), or 0: all tiles
    read all blocks and make NV vectors. FLAT > 0: rows are
    pieces of OUT_W pixels of FLAT contiguous ones, the last may be shorter. ROW_COMING: bytes of the next
    weights that a row fetches. CHUNK: input blocks at a time, for the caches' sake; the sums of all chunks but the last are
    made by FIRST and MIDDLE."""

    vector_bytes = target.vl * 4

    def conv(a, tid, nth):
        tiles, out_h, k_h, k_d, rows, extras = a[TILES], a[OUT_H], a[K_H], a[K_D], a[ROWS_PER_BLOCK], a[EXTRAS_COUNT]
        row_blocks = (out_h + rows - 1) // rows
        block = a[SCRATCH] + tid * a[STRIDE]
        for i in range(MICRO_SLOTS):
            store_i64(block + 8 * i, a[MICRO_BLOCK + i])
        work = a[N] * a[OUT_D] * row_blocks * tiles
        first_item, end = piece(a, work, nth, 0)
        while first_item < end:
            for k in range(first_item, end):
                tile = k % tiles
                rest = k // tiles
                hb = rest % row_blocks
                image = rest // row_blocks
                n = image // a[OUT_D]
                d = image - n * a[OUT_D]
                first, weights, blocks, vector = 0, tile * a[WS_TILE], a[MICRO_BLOCK], tile * a[NV]
                if a[SPANS] != 0:
                    span = a[SPANS] + 8 * SPAN * tile
                    first, blocks, weights, vector = (
                        load_i64(span),
                        load_i64(span + 8),
                        load_i64(span + 16),
                        load_i64(span + 24),
                    )
                    store_i64(block + 8 * MICRO_INPUT_FIRST, load_i64(span + 32))
                    store_i64(block + 8 * MICRO_INPUT_END, load_i64(span + 40))
                    store_i64(block + 8 * MICRO_FIRST_LANE, load_i64(span + 48))
                    store_i64(block + 8 * MICRO_LANES, load_i64(span + 56))
                in_d = d * a[S_D] - a[P_D]
                kd0, kd1 = window(in_d, a[D_D], k_d, a[IN_D])
                xd = a[X] + n * a[XS_N] + first * a[XS_BLOCK] + (in_d + kd0 * a[D_D]) * a[XS_D]
                wd = a[W] + weights + kd0 * a[WS_D]
                yd = a[Y] + n * a[YS_N] + vector * a[MICRO_BLOCK + MICRO_YS_BLOCK] + d * a[YS_D]
                for chunk in range(0, blocks, a[CHUNK]):
                    count = min(a[CHUNK], blocks - chunk)
                    micro = a[MICRO] if chunk + count == blocks else a[FIRST] if chunk == 0 else a[MIDDLE]
                    xc, wc = xd + chunk * a[XS_BLOCK], wd + chunk * a[WS_BLOCK]
                    coming = a[W] + weights + (chunk + count) * a[WS_BLOCK]
                    store_i64(block, count)
                    for h in range(hb * rows, min(out_h, hb * rows + rows)):
                        pixel = 0
                        if a[FLAT] > 0:
                            width = min(a[OUT_W], a[FLAT] - h * a[OUT_W])
                            if width < a[MR]:  # too short for a tile: start earlier, computing some pixels again
                                pixel = width - a[MR]
                                width = a[MR]
                            store_i64(block + 8 * MICRO_PIXELS, width)
                        in_h = h * a[S_H] - a[P_H]
                        kh0, kh1 = window(in_h, a[D_H], k_h, a[IN_H])
                        store_i64(block + 8 * MICRO_COMING, coming)
                        coming += a[ROW_COMING]
                        for e in range(extras):
                            r = EXTRAS + EXTRA * e
                            base = a[r] + n * a[r + 1] + vector * a[r + 2] + d * a[r + 3] + h * a[r + 4]
                            store_i64(block + 8 * (MICRO_EXTRAS + MICRO_EXTRA * e), base + pixel * a[r + 5])
                        call7(
                            micro,
                            block,
                            xc + (in_h + kh0 * a[D_H]) * a[XS_H] + pixel * a[XS_PIXEL],
                            wc + kh0 * a[WS_H],
                            yd + h * a[YS_H] + pixel * a[YS_PIXEL],
                            a[BIAS] + vector * vector_bytes,
                            kd1 - kd0,
                            kh1 - kh0,
                        )
            first_item, end = piece(a, work, nth, end)

    return conv, STEP

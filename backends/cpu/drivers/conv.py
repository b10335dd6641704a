"""Direct convolution: loops over images, row blocks and output-channel tiles around `conv_row`."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, call7, load_i64, store_i64
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.micro.conv import COMING as MICRO_COMING
from graphc.backends.cpu.micro.conv import CONTINUES as MICRO_CONTINUES
from graphc.backends.cpu.micro.conv import EXTRA as MICRO_EXTRA
from graphc.backends.cpu.micro.conv import EXTRAS as MICRO_EXTRAS
from graphc.backends.cpu.micro.conv import FIRST_LANE as MICRO_FIRST_LANE
from graphc.backends.cpu.micro.conv import INPUT_END as MICRO_INPUT_END
from graphc.backends.cpu.micro.conv import INPUT_FIRST as MICRO_INPUT_FIRST
from graphc.backends.cpu.micro.conv import LANES as MICRO_LANES
from graphc.backends.cpu.micro.conv import MAX_HEIGHTS
from graphc.backends.cpu.micro.conv import PARTIAL as MICRO_PARTIAL
from graphc.backends.cpu.micro.conv import PIXELS as MICRO_PIXELS
from graphc.backends.cpu.micro.conv import SLOTS as MICRO_SLOTS
from graphc.backends.cpu.micro.conv import TILES as MICRO_TILES
from graphc.backends.cpu.micro.conv import YS_BLOCK as MICRO_YS_BLOCK

# fmt: off
(MICRO, X, W, BIAS, Y, N, XS_N, YS_N, TILES, OUT_D, OUT_H, OUT_W, K_D, K_H, S_D, S_H, D_D, D_H, P_D, P_H, IN_D, IN_H,
 XS_BLOCK, XS_D, XS_H, NV, YS_D, YS_H, WS_TILE, WS_D, WS_H, ROWS_PER_BLOCK, SPANS, LAST_PIXELS, LAST_TILES, _, _, SCRATCH,
 EXTRAS_COUNT, ROW_COMING, CHUNK, WS_BLOCK, STRIDE) = range(43)
# fmt: on
MICRO_BLOCK = 43  # template of the micro-kernel's argument block: its slots in micro/conv.py
EXTRAS = MICRO_BLOCK + MICRO_SLOTS  # then, an extra operand: address, strides of image, channel block, d, h
EXTRA = 5
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
    read all blocks and make NV vectors. LAST_PIXELS, LAST_TILES: slots PIXELS and TILES of the last row, whose length may be
    another where rows are pieces of an image. ROW_COMING: bytes of the next weights that a row fetches. CHUNK: input blocks
    at a time, for the caches' sake."""

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
                    store_i64(block + 8 * MICRO_CONTINUES, chunk)
                    store_i64(block + 8 * MICRO_PARTIAL, blocks - chunk - count)
                    xc, wc = xd + chunk * a[XS_BLOCK], wd + chunk * a[WS_BLOCK]
                    coming = a[W] + weights + (chunk + count) * a[WS_BLOCK]
                    store_i64(block, count)
                    store_i64(block + 8 * MICRO_PIXELS, a[MICRO_BLOCK + MICRO_PIXELS])
                    for i in range(MICRO_TILES, MICRO_TILES + MAX_HEIGHTS):
                        store_i64(block + 8 * i, a[MICRO_BLOCK + i])
                    for h in range(hb * rows, min(out_h, hb * rows + rows)):
                        if h == out_h - 1:
                            store_i64(block + 8 * MICRO_PIXELS, a[LAST_PIXELS])
                            for i in range(MAX_HEIGHTS):
                                store_i64(block + 8 * (MICRO_TILES + i), a[LAST_TILES + i])
                        in_h = h * a[S_H] - a[P_H]
                        kh0, kh1 = window(in_h, a[D_H], k_h, a[IN_H])
                        store_i64(block + 8 * MICRO_COMING, coming)
                        coming += a[ROW_COMING]
                        for e in range(extras):
                            r = EXTRAS + EXTRA * e
                            base = a[r] + n * a[r + 1] + vector * a[r + 2] + d * a[r + 3] + h * a[r + 4]
                            store_i64(block + 8 * (MICRO_EXTRAS + MICRO_EXTRA * e), base)
                        call7(
                            a[MICRO],
                            block,
                            xc + (in_h + kh0 * a[D_H]) * a[XS_H],
                            wc + kh0 * a[WS_H],
                            yd + h * a[YS_H],
                            a[BIAS] + vector * vector_bytes,
                            kd1 - kd0,
                            kh1 - kh0,
                        )
            first_item, end = piece(a, work, nth, end)

    return conv, STEP

"""Direct convolution: loops over images, row blocks and output-channel tiles around `conv_row`."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call7, load_i64, store_i64
from graphc.backends.cpu.conv.conv_block import CONV, SPAN, Conv
from graphc.backends.cpu.conv.conv_row_block import CONV_ROW, MAX_HEIGHTS
from graphc.backends.cpu.conv.row_block_njit import point_operand
from graphc.backends.cpu.conv.window_njit import window
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver

MICRO, X, W, BIAS, Y, N, TILES, NV = CONV["micro x w bias y n tiles nv"]
OUT_D, OUT_H, IN_D, IN_H = CONV["out_d out_h in_d in_h"]
K_D, K_H, S_D, S_H, D_D, D_H, P_D, P_H = CONV["k_d k_h s_d s_h d_d d_h p_d p_h"]
XS_N, XS_BLOCK, XS_D, XS_H, YS_N, YS_D, YS_H = CONV["xs_n xs_block xs_d xs_h ys_n ys_d ys_h"]
WS_TILE, WS_BLOCK, WS_D, WS_H = CONV["ws_tile ws_block ws_d ws_h"]
ROWS_PER_UNIT, LAST_PIXELS, LAST_TILES, SPANS, CHUNK = CONV["rows last_pixels last_tiles spans chunk"]
SCRATCH, STRIDE, MICRO_BLOCK, OPERANDS_COUNT, ROW_COMING = CONV["scratch stride template epilogue_operands row_coming"]
OPERANDS_AT, OPERAND_SIZE = CONV.size, CONV.record_size
R_REF, R_N, R_BLOCK, R_D, R_H = CONV.in_record("ref n block d h")

SPAN_FIRST, SPAN_BLOCKS, SPAN_WEIGHTS, SPAN_VECTOR = SPAN["first blocks weights vector"]
SPAN_INPUT_FIRST, SPAN_INPUT_END, SPAN_FIRST_LANE, SPAN_LANES = SPAN["input_first input_end first_lane lanes"]
SPAN_SIZE = SPAN.size

MICRO_BLOCKS, MICRO_PIXELS, MICRO_TILES, MICRO_YS_BLOCK = CONV_ROW["blocks pixels tiles ys_block"]
MICRO_INPUT_FIRST, MICRO_INPUT_END, MICRO_FIRST_LANE, MICRO_LANES = CONV_ROW["input_first input_end first_lane lanes"]
MICRO_COMING, MICRO_CONTINUES, MICRO_PARTIAL = CONV_ROW["coming continues partial"]
MICRO_SLOTS = CONV_ROW.size


@driver(Conv)
def conv(target):
    vector_bytes = target.vector

    def conv(a, tid, nth):
        tiles, out_h, k_h, k_d, rows, epilogue_operands = (
            a[TILES],
            a[OUT_H],
            a[K_H],
            a[K_D],
            a[ROWS_PER_UNIT],
            a[OPERANDS_COUNT],
        )
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
                first, weights, blocks, vector = 0, tile * a[WS_TILE], a[MICRO_BLOCK + MICRO_BLOCKS], tile * a[NV]
                if a[SPANS] != 0:
                    span = a[SPANS] + 8 * SPAN_SIZE * tile
                    first, blocks, weights, vector = (
                        load_i64(span + 8 * SPAN_FIRST),
                        load_i64(span + 8 * SPAN_BLOCKS),
                        load_i64(span + 8 * SPAN_WEIGHTS),
                        load_i64(span + 8 * SPAN_VECTOR),
                    )
                    store_i64(block + 8 * MICRO_INPUT_FIRST, load_i64(span + 8 * SPAN_INPUT_FIRST))
                    store_i64(block + 8 * MICRO_INPUT_END, load_i64(span + 8 * SPAN_INPUT_END))
                    store_i64(block + 8 * MICRO_FIRST_LANE, load_i64(span + 8 * SPAN_FIRST_LANE))
                    store_i64(block + 8 * MICRO_LANES, load_i64(span + 8 * SPAN_LANES))
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
                    store_i64(block + 8 * MICRO_BLOCKS, count)
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
                        for e in range(epilogue_operands):
                            r = OPERANDS_AT + OPERAND_SIZE * e
                            base = (
                                a[r + R_REF]
                                + n * a[r + R_N]
                                + vector * a[r + R_BLOCK]
                                + d * a[r + R_D]
                                + h * a[r + R_H]
                            )
                            point_operand(block, e, base)
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

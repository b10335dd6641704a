"""Channel-blocked values in and out: response normalisation, resizing, padding, permuted channels."""

from __future__ import annotations

from numba import float32, float64, njit

from graphc.backends.cpu.blocked.blocked_block import (
    BLOCKED,
    JOIN_TAPS,
    LRN_BLOCKED,
    MAP_CHANNELS,
    PICK_PIXELS,
    RESIZE_BLOCKED,
    SOURCE_BLOCKS,
    SOURCES,
    JoinTaps,
    LrnBlocked,
    MapChannels,
    PickPixels,
    ResizeBlocked,
)
from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    call3,
    call4,
    call5,
    call7,
    copy_bytes,
    float_bits,
    load_i64,
    store_i64,
    typed_memory,
)
from graphc.backends.cpu.executor.work_njit import row_of
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import FLOAT_BYTES

X, Y, N, BLOCKS, OUT_D, OUT_H, OUT_W = BLOCKED["x y n blocks out_d out_h out_w"]
XS_N, XS_BLOCK, XS_D, XS_H, YS_N, YS_BLOCK, YS_D, YS_H = BLOCKED["xs_n xs_block xs_d xs_h ys_n ys_block ys_d ys_h"]
OPERANDS, OPERAND = MAP_CHANNELS.size, MAP_CHANNELS.record_size
R_REF, R_N, R_D, R_H = MAP_CHANNELS.in_record("ref n d h")


@driver(LrnBlocked)
def lrn_blocked(target):
    """The micro-kernel sees each block of channels with its neighbours."""
    MICRO, CHANNELS = LRN_BLOCKED["micro channels"]
    vl = target.vl

    def lrn_blocked(a, tid, nth):
        blocks, out_d, out_h, channels = a[BLOCKS], a[OUT_D], a[OUT_H], a[CHANNELS]
        work = a[N] * blocks * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            n, c, d, h = row_of(k, blocks, out_d, out_h)
            x = a[X] + n * a[XS_N] + c * a[XS_BLOCK] + d * a[XS_D] + h * a[XS_H]
            y = a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + d * a[YS_D] + h * a[YS_H]
            low = x - a[XS_BLOCK] if c > 0 else x
            high = x + a[XS_BLOCK] if c < blocks - 1 else x
            call7(a[MICRO], x, low, high, 1 if c > 0 else 0, channels - c * vl, y, a[OUT_W])

    return lrn_blocked, STEP


@driver(PickPixels)
def pick_pixels(target):
    """y[d, h, w] = x[D[d], H[h], W[w]], or the fill where one of them is -1."""
    DS, HS, WS, FILL, FIRST, END = PICK_PIXELS["from_d from_h from_w fill run run_end"]
    vector = target.vl * FLOAT_BYTES

    def pick_pixels(a, tid, nth):
        blocks, out_d, out_h, out_w = a[BLOCKS], a[OUT_D], a[OUT_H], a[OUT_W]
        ws, fill, first, end = a[WS], a[FILL], a[FIRST], a[END]
        work = a[N] * blocks * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            n, c, d, h = row_of(k, blocks, out_d, out_h)
            y = a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + d * a[YS_D] + h * a[YS_H]
            at_d, at_h = load_i64(a[DS] + 8 * d), load_i64(a[HS] + 8 * h)
            x = a[X] + n * a[XS_N] + c * a[XS_BLOCK] + at_d + at_h
            if at_d < 0 or at_h < 0:
                for w in range(out_w):
                    copy_bytes(y + w * vector, fill, vector)
                continue
            w = 0
            while w < out_w:
                at = load_i64(ws + 8 * w)
                if w == first and end > first:
                    copy_bytes(y + w * vector, x + at, (end - first) * vector)
                    w = end
                    continue
                copy_bytes(y + w * vector, x + at if at >= 0 else fill, vector)
                w += 1

    return pick_pixels, STEP


@driver(ResizeBlocked)
def resize_blocked(target):
    """Separable weighted sums: taps of depth and rows first, into a row of scratch, then those along it."""
    ROWS, PIXELS, COUNT, OFFSETS, WEIGHTS = RESIZE_BLOCKED["mix_rows mix_pixels count offsets weights"]
    ALONG, ALONG_WEIGHTS, IN_W, SCRATCH, STRIDE = RESIZE_BLOCKED["along along_weights in_w scratch stride"]
    vector = target.vl * FLOAT_BYTES

    def resize_blocked(a, tid, nth):
        blocks, out_d, out_h, count, in_w = a[BLOCKS], a[OUT_D], a[OUT_H], a[COUNT], a[IN_W]
        table = a[SCRATCH] + tid * a[STRIDE]
        row = table + 16 * count
        row += -row % vector
        work = a[N] * blocks * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            n, c, d, h = row_of(k, blocks, out_d, out_h)
            x = a[X] + n * a[XS_N] + c * a[XS_BLOCK]
            y = a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + d * a[YS_D] + h * a[YS_H]
            first = (d * out_h + h) * count
            source = x + load_i64(a[OFFSETS] + 8 * first)
            if a[ROWS] != 0:
                for i in range(count):
                    store_i64(table + 16 * i, x + load_i64(a[OFFSETS] + 8 * (first + i)))
                    store_i64(table + 16 * i + 8, load_i64(a[WEIGHTS] + 8 * (first + i)))
                source = row if a[PIXELS] != 0 else y
                call3(a[ROWS], table, source, in_w)
            if a[PIXELS] != 0:
                call5(a[PIXELS], source, a[ALONG], a[ALONG_WEIGHTS], y, a[OUT_W])

    return resize_blocked, STEP


@driver(JoinTaps)
def join_taps(target):
    """Offsets add up, weights multiply."""
    OFFSETS, RESULTS = JOIN_TAPS["offsets weights"]
    COUNT, TAPS, PLACES, WEIGHTS = JOIN_TAPS.in_record("count taps places weights")
    D, H = JOIN_TAPS.size, JOIN_TAPS.size + JOIN_TAPS.record_size
    load_f64, _ = typed_memory(float64)

    def join_taps(a, tid, nth):
        rows, d_taps, h_taps = a[H + COUNT], a[D + TAPS], a[H + TAPS]
        work = a[D + COUNT] * rows
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            d, h = k // rows, k % rows
            for i in range(d_taps):
                for j in range(h_taps):
                    entry, at_d, at_h = 8 * ((k * d_taps + i) * h_taps + j), 8 * (d * d_taps + i), 8 * (h * h_taps + j)
                    offset = load_i64(a[D + PLACES] + at_d) + load_i64(a[H + PLACES] + at_h)
                    weight = load_f64(a[D + WEIGHTS] + at_d) * load_f64(a[H + WEIGHTS] + at_h)
                    store_i64(a[OFFSETS] + entry, offset)
                    store_i64(a[RESULTS] + entry, float_bits(float32(weight)))

    return join_taps, STEP


@njit(error_model="numpy")
def _source(a, pair, n, d, h):
    """The row of a channel or block of an operand. pair: address of the operand's number and of the bytes to the channel."""
    r = OPERANDS + OPERAND * load_i64(pair)
    return a[r + R_REF] + n * a[r + R_N] + d * a[r + R_D] + h * a[r + R_H] + load_i64(pair + 8)


@driver(MapChannels)
def map_channels(target):
    """Each channel of y is some channel of some operand."""
    PERMUTE, GATHER, CHANNELS, SCRATCH, STRIDE = MAP_CHANNELS["permute gather channels scratch stride"]
    BLOCK_TABLE, LANES, SINGLE = MAP_CHANNELS["sources lanes single"]
    RECORD, (COUNT, PAIRS) = SOURCE_BLOCKS.size, SOURCE_BLOCKS["count pairs"]
    vl = target.vl
    vector = vl * FLOAT_BYTES

    def map_channels(a, tid, nth):
        blocks, out_d, out_h, out_w, channels = a[BLOCKS], a[OUT_D], a[OUT_H], a[OUT_W], a[CHANNELS]
        addresses = a[SCRATCH] + tid * a[STRIDE]
        work = a[N] * blocks * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            n, c, d, h = row_of(k, blocks, out_d, out_h)
            y = a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + d * a[YS_D] + h * a[YS_H]
            record = a[BLOCK_TABLE] + 8 * RECORD * c
            count = load_i64(record + 8 * COUNT)
            for i in range(count):
                store_i64(addresses + 16 * i, _source(a, record + 8 * PAIRS + 16 * i, n, d, h))
                store_i64(addresses + 16 * i + 8, a[LANES] + (c * SOURCES + i) * vector)
            if count > 0:
                call3(a[PERMUTE + count - 1], addresses, y, out_w)
                continue
            lanes = min(vl, channels - c * vl)
            for j in range(vl):
                store_i64(addresses + 8 * j, _source(a, a[SINGLE] + 16 * (c * vl + min(j, lanes - 1)), n, d, h))
            call4(a[GATHER], addresses, lanes, y, out_w)

    return map_channels, STEP

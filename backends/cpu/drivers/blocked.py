"""Channel-blocked values in and out: response normalisation, resizing, padding, permuted channels."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call3, call4, call5, call7, copy_bytes, load_i64, store_i64
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import SOURCE_RECORD, SOURCES

# operands and sizes that all share; strides in bytes of [n, channel block, d, h]
X, Y, N, BLOCKS, OUT_D, OUT_H, OUT_W, XS_N, XS_BLOCK, XS_D, XS_H, YS_N, YS_BLOCK, YS_D, YS_H = range(15)
REST = 15


@driver("lrn_blocked")
def lrn_blocked(target):
    """Then: micro-kernel, channels."""
    vl = target.vl

    def lrn_blocked(a, tid, nth):
        blocks, out_d, out_h, channels = a[BLOCKS], a[OUT_D], a[OUT_H], a[REST + 1]
        work = a[N] * blocks * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            h = k % out_h
            rest = k // out_h
            d = rest % out_d
            rest = rest // out_d
            n = rest // blocks
            c = rest - n * blocks
            x = a[X] + n * a[XS_N] + c * a[XS_BLOCK] + d * a[XS_D] + h * a[XS_H]
            y = a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + d * a[YS_D] + h * a[YS_H]
            low = x - a[XS_BLOCK] if c > 0 else x
            high = x + a[XS_BLOCK] if c < blocks - 1 else x
            call7(a[REST], x, low, high, 1 if c > 0 else 0, channels - c * vl, y, a[OUT_W])

    return lrn_blocked, STEP


@driver("pick_pixels")
def pick_pixels(target):
    """y[d, h, w] = x[D[d], H[h], W[w]], or the fill where one of them is -1.

    Then: tables of int64 D, H, W, in bytes, or -1; the fill, one vector; first and end of the longest run of neighbours in W.
    """
    vector = target.vl * 4
    DS, HS, WS, FILL, FIRST, END = range(REST, REST + 6)

    def pick_pixels(a, tid, nth):
        blocks, out_d, out_h, out_w = a[BLOCKS], a[OUT_D], a[OUT_H], a[OUT_W]
        ws, fill, first, end = a[WS], a[FILL], a[FIRST], a[END]
        work = a[N] * blocks * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            h = k % out_h
            rest = k // out_h
            d = rest % out_d
            rest = rest // out_d
            n = rest // blocks
            c = rest - n * blocks
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


@driver("resize_blocked")
def resize_blocked(target):
    """Separable weighted sums: taps of depth and rows first, into a row of scratch, then those along it.

    Then: micro-kernels of rows and of pixels (0: the row is the result), rows that are summed, their byte offsets and
    weights [out d][out h][rows], offsets and weights along the row, its pixels, scratch, bytes of it a thread.
    """
    vector = target.vl * 4
    ROWS, PIXELS, COUNT, OFFSETS, WEIGHTS, ALONG, ALONG_WEIGHTS, IN_W, SCRATCH, STRIDE = range(REST, REST + 10)

    def resize_blocked(a, tid, nth):
        blocks, out_d, out_h, count, in_w = a[BLOCKS], a[OUT_D], a[OUT_H], a[COUNT], a[IN_W]
        table = a[SCRATCH] + tid * a[STRIDE]
        row = table + 16 * count
        row += -row % vector
        work = a[N] * blocks * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            h = k % out_h
            rest = k // out_h
            d = rest % out_d
            rest = rest // out_d
            n = rest // blocks
            c = rest - n * blocks
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


@driver("map_channels")
def map_channels(target):
    """Each channel of y is some channel of some operand. Strides of X are not used: every operand has its own.

    Then: micro-kernels for 1 … SOURCES source blocks (0: there is none) and for any; channels; scratch, bytes of it a thread; a table
    of int64 for each block: how many source blocks (0: use the next table), and of each the operand's number and the bytes to the block;
    indices of lanes, int32 [block][SOURCES][lane]; a table of int64 for each channel: operand and bytes to the channel; the
    operands' records: address, strides of n, d, h.
    """
    vl = target.vl
    vector = vl * 4
    PERMUTE = REST
    GATHER, CHANNELS, SCRATCH, STRIDE, BLOCK_TABLE, INDICES, TABLE, OPERANDS = range(REST + SOURCES, REST + SOURCES + 8)

    def map_channels(a, tid, nth):
        blocks, out_d, out_h, out_w, channels = a[BLOCKS], a[OUT_D], a[OUT_H], a[OUT_W], a[CHANNELS]
        addresses = a[SCRATCH] + tid * a[STRIDE]
        work = a[N] * blocks * out_d * out_h
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            h = k % out_h
            rest = k // out_h
            d = rest % out_d
            rest = rest // out_d
            n = rest // blocks
            c = rest - n * blocks
            y = a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + d * a[YS_D] + h * a[YS_H]
            record = a[BLOCK_TABLE] + 8 * SOURCE_RECORD * c
            count = load_i64(record)
            for i in range(count):
                r = OPERANDS + 4 * load_i64(record + 8 + 16 * i)
                address = a[r] + n * a[r + 1] + d * a[r + 2] + h * a[r + 3] + load_i64(record + 16 + 16 * i)
                store_i64(addresses + 16 * i, address)
                store_i64(addresses + 16 * i + 8, a[INDICES] + (c * SOURCES + i) * vector)
            if count > 0:
                call3(a[PERMUTE + count - 1], addresses, y, out_w)
                continue
            lanes = min(vl, channels - c * vl)
            for j in range(vl):
                at = a[TABLE] + 16 * (c * vl + min(j, lanes - 1))
                r = OPERANDS + 4 * load_i64(at)
                store_i64(addresses + 8 * j, a[r] + n * a[r + 1] + d * a[r + 2] + h * a[r + 3] + load_i64(at + 8))
            call4(a[GATHER], addresses, lanes, y, out_w)

    return map_channels, STEP

"""Convolutions on tensor cores: the pipeline of a product (product/tensor_kernels.py), whose left operand are windows of an image
with its channels innermost."""

from __future__ import annotations

from numba import cuda
from numba.cuda.types import float32, int32, int64, uint8, uint32

from graphc.backends.cuda.codegen.device import load, word
from graphc.backends.cuda.codegen.guarded import divide, divide_wide
from graphc.backends.cuda.codegen.ptx import commit, copy_ahead, seen_by_groups, shared_address, wait_until
from graphc.backends.cuda.codegen.threads import thread, thread_number
from graphc.backends.cuda.conv.conv_block import CHUNK, CONV_SUM, TENSOR_CONV, ConvSum, TensorConv
from graphc.backends.cuda.conv.runs_kernels import finish_run, put, take
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.product.tile import WarpTile
from graphc.backends.cuda.product.tile_kernels import FAR, finish, place_of_block
from graphc.backends.cuda.product.warp_kernels import group_digits, group_done, group_product, order, warp_product
from graphc.expr import Expr


@makes(TensorConv)
def tensor_conv(
    dtype: str,
    tile: WarpTile,
    deep: bool,
    flat: bool,
    run: int,
    wide: tuple[bool, ...],
    expression: Expr,
    operands: tuple[str, ...],
    products: int,
) -> Code:
    item = 4 if dtype == "float32" else 2
    TILES_M, TILES_N, M, N, DIMS, X, WEIGHTS = TENSOR_CONV["tiles_m tiles_n m n dims x weights"]
    LINE, W_GROUP, X_N, X_GROUP, CHANNELS, STEPS, PART = TENSOR_CONV["line w_group x_n x_group channels depth part"]
    TABLE, IN_D, IN_H, IN_W, OUT_D, OUT_H, OUT_W = TENSOR_CONV["table in_d in_h in_w out_d out_h out_w"]
    S_D, S_H, S_W, P_D, P_H, P_W, X_D, X_H, X_W = TENSOR_CONV["s_d s_h s_w p_d p_h p_w x_d x_h x_w"]
    BM, BN, WM, WN, STAGES, BLOCK = tile.m, tile.n, tile.wm, tile.wn, tile.stages, tile.threads
    GROUP = tile.group
    AHEAD = STAGES - 2 if GROUP else STAGES - 1  # stages: of a group, the one before is still being read
    ROW = tile.depth * item  # bytes of a line of either tile
    LEFT_BYTES = BM * ROW
    RAW = LEFT_BYTES + BN * ROW
    STAGE = RAW * tile.digits
    DIGITS = GROUP and item == 4  # are they made in shared memory?
    PARTS = ROW // CHUNK  # of a line
    LINES = BLOCK // PARTS  # that all threads copy at once
    LEFTS, RIGHTS = BM // LINES, max(1, BN // LINES)
    EVERY = LINES * ROW
    assert LINES % 8 == 0  # lines so far apart have their chunks in one order
    ROWS, COLUMNS, PER_ROW = WM // 16, WN // 8, BN // WN
    SUMS = ROWS * COLUMNS * 4
    EACH = max(run, 1)
    PITCH = (
        BN + 8 if run else BN + 1
    )  # floats of a line of sums: in one piece each, and their neighbours in other banks
    ACROSS = BN // EACH
    ENDS = BM * ACROSS // BLOCK
    copy_in, wait, shift = copy_ahead(CHUNK), wait_until(AHEAD - 1), order(ROW, False, item)
    alignment = 1024 if GROUP else 128
    LEFT_WARPS, LEFT_STEP = (4, 64 * ROW) if GROUP else (PER_ROW, WM * ROW)  # that share rows, bytes of these
    multiply = (
        group_product(BN, tile.depth, False, dtype, STAGE - RAW)
        if GROUP
        else warp_product(ROWS, COLUMNS, ROW, False, dtype, products)
    )
    done, digits = group_done(SUMS), group_digits(RAW // EVERY, EVERY, STAGE - RAW)
    store, pixel_place, get = (
        finish_run(TENSOR_CONV, float32, expression, operands, EACH, wide),
        pixel_place_in(flat),
        take(EACH),
    )

    def tensor_conv(a):
        memory = shared_address(cuda.shared.array(0, uint8, alignment=alignment))
        sums = cuda.local.array(SUMS, float32)
        first = cuda.local.array(LEFTS, int64)  # of the windows of this thread's pixels: address, place
        first_d = cuda.local.array(LEFTS, int32)
        first_h = cuda.local.array(LEFTS, int32)
        first_w = cuda.local.array(LEFTS, int32)
        m, n = int32(word(a, M)), int32(word(a, N))
        t = int32(thread())
        lane, warp = int32(t & 31), int32(t >> 5)
        column_tile, row_tile, group, part, _, _ = place_of_block(a, TILES_N, TILES_M, DIMS)
        column0, row0 = int32(column_tile * BN), int32(row_tile * BM)
        out_d, out_h, out_w = int32(word(a, OUT_D)), int32(word(a, OUT_H)), int32(word(a, OUT_W))
        in_d, in_h, in_w = uint32(word(a, IN_D)), uint32(word(a, IN_H)), uint32(word(a, IN_W))
        x_d, x_h, x_w = word(a, X_D), word(a, X_H), word(a, X_W)

        # what this thread copies: a chunk of every LINES-th line of either tile
        line, chunk = int32(t // PARTS), int32(t % PARTS)
        own = int32(line * ROW + ((chunk * CHUNK) ^ shift(line)))  # of a stage, the next EVERY bytes further
        for i in range(LEFTS):
            pixel = int32(row0 + line + i * LINES)
            up = divide(pixel, out_w)
            w = int32(int32(pixel - up * out_w) * word(a, S_W) - word(a, P_W))
            plane = divide(up, out_h)
            h = int32(int32(up - plane * out_h) * word(a, S_H) - word(a, P_H))
            image = plane
            at = word(a, X) + group * word(a, X_GROUP) + h * x_h + w * x_w
            if deep:
                image = divide(plane, out_d)
                d = int32(int32(plane - image * out_d) * word(a, S_D) - word(a, P_D))
                first_d[i] = d
                at += d * x_d
            first[i] = at + image * word(a, X_N)
            first_h[i] = h
            first_w[i] = w if pixel < m else int32(FAR)
        begin = int32(part * word(a, PART))
        steps = int32(min(word(a, PART), word(a, STEPS) - begin))
        table = word(a, TABLE) + (begin * PARTS + chunk) * 16
        line_bytes, channels = word(a, LINE), int32(word(a, CHANNELS))
        right = (
            word(a, WEIGHTS) + group * word(a, W_GROUP) + (column0 + line) * line_bytes + begin * ROW + chunk * CHUNK
        )
        right_bytes = int32(line_bytes - begin * ROW - chunk * CHUNK)
        right_step = LINES * line_bytes

        for i in range(SUMS):
            sums[i] = float32(0)
        to, of = memory, memory
        end = int32(memory + STAGES * STAGE)
        step = int32(-AHEAD)
        while True:  # at least once, or ptxas has sums that no wgmma wrote, and makes each of them wait
            if step >= 0:
                wait()
                if DIGITS:
                    digits(int32(of + own))
                if GROUP:
                    seen_by_groups()
                cuda.syncthreads()
            if step + AHEAD < steps:
                x_h, x_w = word(a, X_H), word(a, X_W)  # again, for want of registers
                inner, outer = word(table, 0), word(table, 1)
                within = int32(inner)
                d, h, w = int32(inner >> 32), int32(outer >> 32), int32(outer)
                there = within + h * x_h + w * x_w
                if deep:
                    there += d * word(a, X_D)
                given = int32(min(channels - within, CHUNK))
                for i in range(LEFTS):
                    inside = (uint32(first_w[i] + w) < in_w) & (uint32(first_h[i] + h) < in_h)
                    if deep:
                        inside &= uint32(first_d[i] + d) < in_d
                    copy_in(int32(to + own + i * EVERY), first[i] + there, given if inside else 0)
                given = CHUNK if right_bytes > 0 else 0
                for i in range(RIGHTS):
                    at = int32(line + i * LINES)
                    if RIGHTS * LINES == BN or at < BN:
                        to_chunk = int32(to + LEFT_BYTES + own + i * EVERY)
                        copy_in(to_chunk, right + i * right_step, given if column0 + at < n else 0)
                table += PARTS * 16
                right += ROW
                right_bytes = int32(right_bytes - ROW)
                to = int32(to + STAGE)
                if to == end:
                    to = memory
            commit()
            if step >= 0:
                at = int32(of + warp // LEFT_WARPS * LEFT_STEP)
                multiply(sums, at, int32(of + LEFT_BYTES), warp % PER_ROW * WN, lane)
                of = int32(of + STAGE)
                if of == end:
                    of = memory
            step = int32(step + 1)
            if step >= steps:
                break

        if GROUP:
            done(sums)
        cuda.syncthreads()  # before sums lie where operands did
        at = int32(warp // PER_ROW * WM + (lane >> 2))
        to = int32(memory + 4 * (at * PITCH + warp % PER_ROW * WN + (lane & 3) * 2))
        for i in range(ROWS):
            for j in range(COLUMNS):
                for e in range(4):
                    put(
                        int32(to + 4 * ((i * 16 + e // 2 * 8) * PITCH + j * 8 + e % 2)), sums[(i * COLUMNS + j) * 4 + e]
                    )
        cuda.syncthreads()
        for i in range(ENDS):
            k = int32(t + i * BLOCK)
            row, column = int32(k % BM), int32(k // BM)
            if run:
                row, column = int32(k // ACROSS), int32(k % ACROSS * EACH)
            totals = get(int32(memory + 4 * (row * PITCH + column)))
            pixel, c = int32(row0 + row), int32(column0 + column)
            w, h, d, image = pixel_place(pixel, out_w, out_h, out_d)
            store(a, (pixel < m) & (c < n), w, h, d, c, group, image, part, 0, totals)

    return Code(tensor_conv, BLOCK, max(STAGES * STAGE, 4 * BM * PITCH), tile.blocks if GROUP else 0)


def pixel_place_in(flat: bool):
    """pixel_place(pixel, out_w, out_h, out_d): its place along w, h and d, and the image; (pixel, 0, 0, 0) where it is flat."""

    @cuda.jit(device=True)
    def pixel_place(pixel, out_w, out_h, out_d):
        if flat:
            return pixel, int32(0), int32(0), int32(0)
        up = divide(pixel, out_w)
        plane = divide(up, out_h)
        image = divide(plane, out_d)
        return int32(pixel - up * out_w), int32(up - plane * out_h), int32(plane - image * out_d), image

    return pixel_place


@makes(ConvSum)
def conv_sum(flat: bool, expression: Expr, operands: tuple[str, ...]) -> Code:
    TOTAL, OUTPUTS, COUNT, PARTIAL, BETWEEN = CONV_SUM["total outputs parts partial between"]
    OUT_D, OUT_H, OUT_W = CONV_SUM["out_d out_h out_w"]
    get, store, pixel_place = load("float32"), finish(CONV_SUM, expression, operands), pixel_place_in(flat)

    def conv_sum(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            outputs = word(a, OUTPUTS)
            pixel = int32(divide_wide(i, outputs))
            at, between = word(a, PARTIAL) + 4 * i, word(a, BETWEEN)
            total = float32(0)
            for _ in range(int32(word(a, COUNT))):
                total = float32(total + get(at))
                at += between
            w, h, d, n = pixel_place(pixel, int32(word(a, OUT_W)), int32(word(a, OUT_H)), int32(word(a, OUT_D)))
            store(a, True, w, h, d, i - pixel * outputs, 0, n, 0, 0, total)

    return Code(conv_sum, THREADS)

"""Convolutions of bytes: loops over images, rows and panels of output channels around their tiles."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    call4,
    copy_bytes,
    fill_bytes,
    load_u8,
    load_u16,
    store_i64,
    store_u8,
    store_u16,
)
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.integer.byte_conv_block import (
    BORDER,
    BYTE_CONV,
    BYTE_DEPTHWISE,
    BYTE_TILE,
    Border,
    ByteConv,
    ByteDepthwise,
)
from graphc.backends.cpu.kernel import driver

T_ROWS, T_RUNS, T_STEPS, T_X_H, T_X_RUN, T_X_PIXEL, T_Y_PIXEL, T_Y_VECTOR, T_LANES = BYTE_TILE[
    "rows runs steps x_h x_run x_pixel y_pixel y_vector lanes"
]
T_OPERANDS, T_OPERAND = BYTE_TILE.size, BYTE_TILE.record_size
T_REF, T_PIXEL, T_VECTOR = BYTE_TILE.in_record("ref pixel vector")
R_REF, R_N, R_ROW, R_PIXEL, R_CHANNEL = BYTE_CONV.in_record("ref n row pixel channel")
RECORD = BYTE_CONV.record_size
assert BYTE_DEPTHWISE.in_record("ref n row pixel channel") == (R_REF, R_N, R_ROW, R_PIXEL, R_CHANNEL)


@njit(error_model="numpy")
def stride_operands(a, block, first, count, vl):
    """What tiles have in common. first: where the records of a's operands begin."""
    for e in range(count):
        r = first + RECORD * e
        t = block + 8 * (T_OPERANDS + T_OPERAND * e)
        store_i64(t + 8 * T_PIXEL, a[r + R_PIXEL])
        store_i64(t + 8 * T_VECTOR, a[r + R_CHANNEL] * vl)


@njit(error_model="numpy")
def point_operands(a, block, first, count, n, row, pixel, channel):
    for e in range(count):
        r = first + RECORD * e
        at = a[r + R_REF] + n * a[r + R_N] + row * a[r + R_ROW] + pixel * a[r + R_PIXEL] + channel * a[r + R_CHANNEL]
        store_i64(block + 8 * (T_OPERANDS + T_OPERAND * e + T_REF), at)


@driver(ByteConv)
def byte_conv(target):
    """A piece of work is a part of a row times a panel of output channels: its weights stay in the caches for all rows. A tile that
    overlaps the one before takes the place of a tail of pixels."""
    WIDE, EDGE, X, W, Y, ROWS, OUT_H, PIXELS, PART = BYTE_CONV["wide edge x w y rows out_h pixels part"]
    X_N, X_ROW, X_PIXEL, X_GROUP, Y_N, Y_ROW, Y_PIXEL, Y_GROUP = BYTE_CONV[
        "x_n x_row x_pixel x_group y_n y_row y_pixel y_group"
    ]
    GROUPS, CHANNELS, PANELS, PANEL, MR, NV, LAST_NV, LAST_LANES = BYTE_CONV[
        "groups channels panels panel mr nv last_nv last_lanes"
    ]
    WINDOW, RUNS, STEPS, X_H, X_RUN, Y_VECTOR, SCRATCH, STRIDE, OPERANDS, VARYING = BYTE_CONV[
        "window runs steps x_h x_run y_vector scratch stride operands varying"
    ]
    FIRST = BYTE_CONV.size
    vl = target.vl

    def byte_conv(a, tid, nth):
        block = a[SCRATCH] + tid * a[STRIDE]
        store_i64(block + 8 * T_ROWS, a[WINDOW])
        store_i64(block + 8 * T_RUNS, a[RUNS])
        store_i64(block + 8 * T_STEPS, a[STEPS])
        store_i64(block + 8 * T_X_H, a[X_H])
        store_i64(block + 8 * T_X_RUN, a[X_RUN])
        store_i64(block + 8 * T_X_PIXEL, a[X_PIXEL])
        store_i64(block + 8 * T_Y_PIXEL, a[Y_PIXEL])
        store_i64(block + 8 * T_Y_VECTOR, a[Y_VECTOR])
        store_i64(block + 8 * T_LANES, a[LAST_LANES])
        stride_operands(a, block, FIRST, a[OPERANDS], vl)
        pixels, part, mr, panels, out_h = a[PIXELS], a[PART], a[MR], a[PANELS], a[OUT_H]
        parts = (pixels + part - 1) // part
        lines = a[ROWS] * parts
        work = a[GROUPS] * panels * lines
        first, end = piece(a, work, nth, 0)
        while first < end:
            for k in range(first, end):
                column = k // lines
                line = k - column * lines
                group = column // panels
                panel = column - group * panels
                row = line // parts
                start = (line - row * parts) * part
                n = row // out_h
                h = row - n * out_h
                micro = a[EDGE] if panel == panels - 1 else a[WIDE]
                channel = panel * a[NV] * vl
                x = a[X] + n * a[X_N] + h * a[X_ROW] + group * a[X_GROUP]
                y = a[Y] + n * a[Y_N] + h * a[Y_ROW] + group * a[Y_GROUP] + panel * a[NV] * a[Y_VECTOR]
                w = a[W] + column * a[PANEL] - group * (a[NV] - a[LAST_NV]) * (a[PANEL] // a[NV])
                channel += group * a[CHANNELS]
                point_operands(a, block, FIRST, a[OPERANDS], n, h, 0, channel)
                for m0 in range(start, min(pixels, start + part), mr):
                    m = min(m0, pixels - mr)
                    point_operands(a, block, FIRST, a[VARYING], n, h, m, channel)
                    call4(micro, block, x + m * a[X_PIXEL], w, y + m * a[Y_PIXEL])
            first, end = piece(a, work, nth, end)

    return byte_conv, STEP


@driver(ByteDepthwise)
def byte_depthwise(target):
    """A piece of work is a row of pixels."""
    WIDE, EDGE, X, W, Y, ROWS, OUT_H, PIXELS, BLOCKS, LAST_LANES = BYTE_DEPTHWISE[
        "wide edge x w y rows out_h pixels blocks last_lanes"
    ]
    X_N, X_ROW, X_H, X_PIXEL, Y_N, Y_ROW, Y_PIXEL, Y_VECTOR = BYTE_DEPTHWISE[
        "x_n x_row x_h x_pixel y_n y_row y_pixel y_vector"
    ]
    WINDOW, MR, X_STEP, X_VECTOR, W_BLOCK, SCRATCH, STRIDE, OPERANDS, VARYING = BYTE_DEPTHWISE[
        "window mr x_step x_vector w_block scratch stride operands varying"
    ]
    FIRST = BYTE_DEPTHWISE.size
    vl = target.vl

    def byte_depthwise(a, tid, nth):
        block = a[SCRATCH] + tid * a[STRIDE]
        store_i64(block + 8 * T_ROWS, a[WINDOW])
        store_i64(block + 8 * T_X_H, a[X_H])
        store_i64(block + 8 * T_X_PIXEL, a[X_PIXEL])
        store_i64(block + 8 * T_Y_PIXEL, a[Y_PIXEL])
        store_i64(block + 8 * T_LANES, a[LAST_LANES])
        stride_operands(a, block, FIRST, a[OPERANDS], vl)
        pixels, mr, blocks, out_h = a[PIXELS], a[MR], a[BLOCKS], a[OUT_H]
        first, end = piece(a, a[ROWS], nth, 0)
        while first < end:
            for row in range(first, end):
                n = row // out_h
                h = row - n * out_h
                x, y = a[X] + n * a[X_N] + h * a[X_ROW], a[Y] + n * a[Y_N] + h * a[Y_ROW]
                for c in range(blocks):
                    micro = a[EDGE] if c == blocks - 1 else a[WIDE]
                    point_operands(a, block, FIRST, a[OPERANDS], n, h, 0, c * vl)
                    for m0 in range(0, pixels, mr):
                        m = min(m0, pixels - mr)
                        point_operands(a, block, FIRST, a[VARYING], n, h, m, c * vl)
                        at = x + c * a[X_VECTOR] + m * a[X_STEP]
                        call4(micro, block, at, a[W] + c * a[W_BLOCK], y + c * a[Y_VECTOR] + m * a[Y_PIXEL])
            first, end = piece(a, a[ROWS], nth, end)

    return byte_depthwise, STEP


@driver(Border, computes=True)
def byte_border(target):
    """A piece of work is a row of the larger images."""
    X, Y, FILL, ITEM, N, HEIGHT, WIDTH, GROUPS, CHANNELS = BORDER["x y fill item n height width groups channels"]
    X_N, X_H, X_W, X_C, Y_N, Y_H, Y_W, Y_GROUP = BORDER["x_n x_h x_w x_c y_n y_h y_w y_group"]
    ABOVE, LEFT, Y_HEIGHT, Y_WIDTH = BORDER["above left y_height y_width"]

    def byte_border(a, tid, nth):
        fill, item = load_u8(a[FILL]), a[ITEM]
        height, width, groups, channels = a[HEIGHT], a[WIDTH], a[GROUPS], a[CHANNELS]
        x_w, x_c, y_w, y_group, y_width, left = a[X_W], a[X_C], a[Y_W], a[Y_GROUP], a[Y_WIDTH], a[LEFT]
        whole = x_c == item and channels * item == y_group and x_w == y_w
        first, end = piece(a, a[N] * a[Y_HEIGHT], nth, 0)
        while first < end:
            for k in range(first, end):
                n = k // a[Y_HEIGHT]
                at = k - n * a[Y_HEIGHT]
                h = at - a[ABOVE]
                y = a[Y] + n * a[Y_N] + at * a[Y_H]
                if h < 0 or h >= height:
                    fill_bytes(y, y_width * y_w, fill)
                    continue
                x = a[X] + n * a[X_N] + h * a[X_H]
                if whole:
                    fill_bytes(y, left * y_w, fill)
                    copy_bytes(y + left * y_w, x, width * y_w)
                    fill_bytes(y + (left + width) * y_w, (y_width - left - width) * y_w, fill)
                    continue
                fill_bytes(y, y_width * y_w, fill)
                y += left * y_w
                for g in range(groups):
                    for c in range(channels):
                        to, source = y + g * y_group + c * item, x + (g * channels + c) * x_c
                        if item == 1:
                            for w in range(width):
                                store_u8(to + w * y_w, load_u8(source + w * x_w))
                        else:
                            for w in range(width):
                                store_u16(to + w * y_w, load_u16(source + w * x_w))
            first, end = piece(a, a[N] * a[Y_HEIGHT], nth, end)

    return byte_border, STEP

"""Pixels of images at the positions of a grid (GridSample)."""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    as_block,
    block_address,
    call6,
    load_i64,
    store_f32,
    store_i64,
)
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sampling.grid_block import GRID, POINTS, Grid
from graphc.backends.cpu.sampling.grid_njit import nearest, pixel, position
from graphc.backends.cpu.sampling.whole_njit import is_finite, rounded_down
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES, load_float


@driver(Grid, computes=True)
def grid(target):
    """Y = X at the positions of the grid; one that is not finite is reported."""
    X, POSITIONS, Y, N, CHANNELS, H, W, COUNT = GRID["x grid y n channels h w points"]
    LINEAR, ALIGN, PADDING, MICRO, OFFSETS, WEIGHTS, ZERO, STRIDE, ITEM = GRID[
        "linear align padding micro offsets weights zero stride item"
    ]
    REPORTS = GRID.size

    @njit(error_model="numpy")
    def place(a, gx, gy, i, offsets, weights):
        """The taps of point i."""
        h, w, linear, align, padding = a[H], a[W], a[LINEAR], a[ALIGN], a[PADDING]
        if not linear:
            x, y = nearest(gx, w, a[ITEM], align, padding), nearest(gy, h, a[ITEM], align, padding)
            row, column = pixel(np.int64(y), h, align, padding), pixel(np.int64(x), w, align, padding)
            offsets[i] = (row * w + column) * FLOAT_BYTES
            store_f32(weights + i * FLOAT_BYTES, np.float32(1))
            return
        x, y = position(gx, w, align, padding), position(gy, h, align, padding)
        left, top = rounded_down(x), rounded_down(y)
        right_part, lower_part = x - left, y - top
        left_part, upper_part = 1 - right_part, 1 - lower_part
        row, next_row = pixel(top, h, align, padding) * w, pixel(top + 1, h, align, padding) * w
        column, next_column = pixel(left, w, align, padding), pixel(left + 1, w, align, padding)
        offsets[i] = (row + column) * FLOAT_BYTES
        offsets[POINTS + i] = (row + next_column) * FLOAT_BYTES
        offsets[2 * POINTS + i] = (next_row + column) * FLOAT_BYTES
        offsets[3 * POINTS + i] = (next_row + next_column) * FLOAT_BYTES
        to = weights + i * FLOAT_BYTES
        store_f32(to, np.float32(upper_part * left_part))
        store_f32(to + POINTS * FLOAT_BYTES, np.float32(upper_part * right_part))
        store_f32(to + 2 * POINTS * FLOAT_BYTES, np.float32(lower_part * left_part))
        store_f32(to + 3 * POINTS * FLOAT_BYTES, np.float32(lower_part * right_part))

    def grid(a, tid, nth):
        mine = tid * a[STRIDE]
        offsets, weights, zero = as_block(a[OFFSETS] + mine), a[WEIGHTS] + mine, a[ZERO] + mine
        store_f32(zero, np.float32(0))
        points, channels, item = a[COUNT], a[CHANNELS], a[ITEM]
        x_plane, y_plane = a[H] * a[W] * FLOAT_BYTES, points * FLOAT_BYTES
        chunks = (points + POINTS - 1) // POINTS
        work = a[N] * chunks
        first, end = piece(a, work, nth, 0)
        while first < end:
            for k in range(first, end):
                image = k // chunks
                start = (k - image * chunks) * POINTS
                count = min(points - start, POINTS)
                for i in range(count):
                    number = image * points + start + i
                    at = a[POSITIONS] + 2 * item * number
                    gx, gy = load_float(at, item), load_float(at + item, item)
                    if not (is_finite(gx) and is_finite(gy)):
                        report = block_address(a) + INT64_BYTES * (REPORTS + 2 * tid)
                        if load_i64(report) == 0:
                            store_i64(report, number + 1)
                        gx = gy = 1.0
                    place(a, gx, gy, i, offsets, weights)
                x, y = a[X] + image * channels * x_plane, a[Y] + image * channels * y_plane + start * FLOAT_BYTES
                for c in range(channels):
                    call6(a[MICRO], count, a[OFFSETS] + mine, weights, zero, x + c * x_plane, y + c * y_plane)
            first, end = piece(a, work, nth, end)

    return grid, STEP

"""Pixels of images at the positions of a grid (GridSample)."""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    as_block,
    block_address,
    call6,
    load_f32,
    load_i64,
    store_f32,
    store_i64,
)
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sampling.grid_block import BORDER, GRID, POINTS, REFLECTION, Grid
from graphc.backends.cpu.sampling.whole_njit import is_finite, nearest, rounded_down
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES

ONE, HALF = np.float32(1), np.float32(0.5)
FAR = 2.0**40  # pixels: positions beyond are like this one
NOT_READ = -(2**32)  # a sum with it is negative


@njit(error_model="numpy")
def _reflected(p, low, high):
    """A position mirrored at both borders until it is within."""
    span = high - low
    if span <= 0:
        return 0.0
    offset = abs(p - low)
    turns = rounded_down(offset / span)
    rest = offset - turns * span
    return high - rest if turns & 1 else low + rest


@njit(error_model="numpy")
def _position(g, size, linear, align, padding):
    """A position of the grid, from -1 to 1, in pixels."""
    if linear:
        wide = np.float64(g) + 1
        p = wide / 2 * (size - 1) if align else (wide * size - 1) / 2
        p = max(min(p, FAR), -FAR)
    else:  # rounded as float32 are: which pixel is nearest hangs on that
        from_low = g + ONE
        p32 = from_low * HALF * np.float32(size - 1) if align else (from_low * np.float32(size) - ONE) * HALF
        p = np.float64(nearest(max(min(np.float64(p32), FAR), -FAR)))
    if padding == BORDER:
        return max(min(p, size - 1.0), 0.0)
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    return _reflected(p, low, high) if padding == REFLECTION and (p < low or p > high) else p


@njit(error_model="numpy")
def _pixel(index, size, align, padding):
    """The pixel that stands for one at `index`, NOT_READ where none does."""
    if 0 <= index < size:
        return index
    if padding != REFLECTION:
        return NOT_READ
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    return max(min(np.int64(_reflected(np.float64(index), low, high)), size - 1), 0)


@driver(Grid, computes=True)
def grid(target):
    """Y = X at the positions of the grid; one that is not finite is reported."""
    X, POSITIONS, Y, N, CHANNELS, H, W, COUNT = GRID["x grid y n channels h w points"]
    LINEAR, ALIGN, PADDING, MICRO, OFFSETS, WEIGHTS, ZERO, STRIDE = GRID[
        "linear align padding micro offsets weights zero stride"
    ]
    REPORTS = GRID.size

    @njit(error_model="numpy")
    def place(a, gx, gy, i, offsets, weights):
        """The taps of point i."""
        h, w, linear, align, padding = a[H], a[W], a[LINEAR], a[ALIGN], a[PADDING]
        x, y = _position(gx, w, linear, align, padding), _position(gy, h, linear, align, padding)
        if not linear:
            row, column = _pixel(np.int64(y), h, align, padding), _pixel(np.int64(x), w, align, padding)
            offsets[i] = (row * w + column) * FLOAT_BYTES
            store_f32(weights + i * FLOAT_BYTES, np.float32(1))
            return
        left, top = rounded_down(x), rounded_down(y)
        right_part, lower_part = x - left, y - top
        left_part, upper_part = 1 - right_part, 1 - lower_part
        row, next_row = _pixel(top, h, align, padding) * w, _pixel(top + 1, h, align, padding) * w
        column, next_column = _pixel(left, w, align, padding), _pixel(left + 1, w, align, padding)
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
        points, channels = a[COUNT], a[CHANNELS]
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
                    at = a[POSITIONS] + 2 * FLOAT_BYTES * number
                    gx, gy = load_f32(at), load_f32(at + FLOAT_BYTES)
                    if not (is_finite(gx) and is_finite(gy)):
                        report = block_address(a) + INT64_BYTES * (REPORTS + 2 * tid)
                        if load_i64(report) == 0:
                            store_i64(report, number + 1)
                        gx = gy = ONE
                    place(a, gx, gy, i, offsets, weights)
                x, y = a[X] + image * channels * x_plane, a[Y] + image * channels * y_plane + start * FLOAT_BYTES
                for c in range(channels):
                    call6(a[MICRO], count, a[OFFSETS] + mine, weights, zero, x + c * x_plane, y + c * y_plane)
            first, end = piece(a, work, nth, end)

    return grid, STEP

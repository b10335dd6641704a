"""Pixels of images of any rank at the positions of a grid: those around each, one after the other (GridSample)."""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, as_block, block_address, load_i64, store_i64
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sampling.grid_block import BORDER, GRID_TAPS, POINTS, ZEROS, GridTaps
from graphc.backends.cpu.sampling.grid_njit import cubic_weight, nearest, pixel, position
from graphc.backends.cpu.sampling.whole_njit import is_finite, rounded_down
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES, load_f64, load_float, store_f64, store_float


@njit(error_model="numpy")
def _place(at, item, size, taps, align, padding, indices, weights):
    """The pixels along one axis for the position at an address. Is it finite?"""
    g = load_float(at, item)
    if not is_finite(g):
        return False
    if taps == 1:
        p = nearest(g, size, item, align, padding)
        indices[0] = pixel(np.int64(p), size, align, padding)
        store_f64(weights, 1.0)
        return True
    if taps == 2:
        p = position(g, size, align, padding)
        low = rounded_down(p)
        for k in range(2):
            indices[k] = pixel(low + k, size, align, padding)
            store_f64(weights + 8 * k, p - low if k else 1 - (p - low))
        return True
    p = position(
        g, size, align, ZEROS if padding == BORDER else padding
    )  # cubic: the pixels stay within, not the position
    low = rounded_down(p)
    for k in range(taps):
        index = low - 1 + k
        if padding == BORDER:
            index = max(min(index, size - 1), 0)
        indices[k] = pixel(index, size, align, padding)
        store_f64(weights + 8 * k, cubic_weight(abs(p - (low - 1 + k))))
    return True


@driver(GridTaps, computes=True)
def grid_taps(target):
    """Y = X at the positions of the grid; one that is not finite is reported."""
    X, POSITIONS, Y, N, CHANNELS, COUNT, RANK = GRID_TAPS["x grid y n channels points rank"]
    TAPS, COMBINATIONS, ALIGN, PADDING, ITEM, GRID_ITEM = GRID_TAPS["taps combinations align padding item grid_item"]
    SCRATCH, STRIDE = GRID_TAPS["scratch stride"]
    (OF_AXIS,) = GRID_TAPS.in_record("size")
    SIZES = GRID_TAPS.size + OF_AXIS

    @njit(error_model="numpy")
    def place(a, reports, number, tid, indices, weights):
        """The pixels along all axes. Are the positions finite?"""
        rank, taps = a[RANK], a[TAPS]
        for d in range(rank):
            at = a[POSITIONS] + (number * rank + rank - 1 - d) * a[GRID_ITEM]
            to = d * taps * INT64_BYTES
            if not _place(
                at, a[GRID_ITEM], a[SIZES + d], taps, a[ALIGN], a[PADDING], as_block(indices + to), weights + to
            ):
                report = block_address(a) + INT64_BYTES * (reports + 2 * tid)
                if load_i64(report) == 0:
                    store_i64(report, number + 1)
                return False
        return True

    @njit(error_model="numpy")
    def combine(a, indices, weights, offsets, products):
        """Offsets and weights of the pixels that are read; how many."""
        rank, taps, count = a[RANK], a[TAPS], 0
        for k in range(a[COMBINATIONS]):
            rest, offset, weight, step = k, 0, 1.0, a[ITEM]
            for d in range(rank - 1, -1, -1):
                at = d * taps + rest % taps
                rest //= taps
                offset += indices[at] * step
                step *= a[SIZES + d]
                weight *= load_f64(weights + 8 * at)
                if indices[at] < 0:
                    offset = -1
                    break
            if offset >= 0:
                offsets[count] = offset
                store_f64(products + 8 * count, weight)
                count += 1
        return count

    def grid_taps(a, tid, nth):
        mine, entries, item = a[SCRATCH] + tid * a[STRIDE], a[RANK] * a[TAPS] * INT64_BYTES, a[ITEM]
        indices, weights, at = mine, mine + entries, mine + 2 * entries
        offsets, products = as_block(at), at + a[COMBINATIONS] * INT64_BYTES
        points, channels, plane, rank = a[COUNT], a[CHANNELS], item, a[RANK]
        for d in range(rank):
            plane *= a[SIZES + d]
        reports = SIZES + rank - OF_AXIS
        chunks = (points + POINTS - 1) // POINTS
        work = a[N] * chunks
        first, end = piece(a, work, nth, 0)
        while first < end:
            for k in range(first, end):
                image = k // chunks
                start = (k - image * chunks) * POINTS
                for i in range(start, min(start + POINTS, points)):
                    count = 0
                    if place(a, reports, image * points + i, tid, indices, weights):
                        count = combine(a, as_block(indices), weights, offsets, products)
                    x, y = a[X] + image * channels * plane, a[Y] + (image * channels * points + i) * item
                    for _ in range(channels):
                        total = 0.0
                        for t in range(count):
                            total += load_f64(products + 8 * t) * load_float(x + offsets[t], item)
                        store_float(y, total, item)
                        x += plane
                        y += points * item
            first, end = piece(a, work, nth, end)

    return grid_taps, STEP

"""Averages over the bins of regions of images (RoiAlign), and largest pixels of them (MaxRoiPool).

Samples lie on a grid, and each is a weighted sum of the four pixels around it. So the average over a bin is a sum over the
image's rows and columns with weights of each, which all channels share; they are computed once per region.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    as_block,
    block_address,
    call3,
    fill_bytes,
    load_f32,
    load_i64,
    store_f32,
    store_i64,
)
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sampling.regions_block import CHANNELS, PLANE, REGION_MAXIMA, REGIONS, RegionMaxima, Regions
from graphc.backends.cpu.sampling.whole_njit import is_finite, rounded_down, rounded_up
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES, load_integer

BOX = 4  # numbers of a region: x1, y1, x2, y2


@njit(error_model="numpy")
def _add(weights, index, value):
    at = weights + FLOAT_BYTES * index
    store_f32(at, np.float32(load_f32(at) + value))


@njit(error_model="numpy")
def _within(x, most):
    """The whole part of x, from 0 to `most`."""
    return np.int64(max(min(x, np.float64(most)), 0.0))


@njit(error_model="numpy")
def _samples(step):
    """About one per pixel: the step, rounded up."""
    return rounded_up(max(min(step, 2.0**31), 0.0))


@njit(error_model="numpy")
def _axis(weights, ends, start, length, bins, size, ratio):
    """Weights [bins, size] of an axis' pixels in the mean over each bin, of an axis of a region from `start` on, and for each
    bin the first pixel that counts and the one behind the last. Returns the same of all bins."""
    fill_bytes(weights, FLOAT_BYTES * bins * size, 0)
    ends_at = as_block(ends)
    step = length / bins
    samples = ratio if ratio > 0 else _samples(step)
    all_first, all_end = size, 0
    for i in range(bins):
        first, end, near, far = size, 0, 0, samples
        origin = start + i * step
        if step > 0 and samples > 0:  # those outside of [-1, size] are not worth the way
            near = _within((-1 - origin) / step * samples - 2, samples)
            far = _within((size - origin) / step * samples + 2, samples)
        for s in range(near, far):
            p = start + (i + (s + 0.5) / samples) * step
            if -1 <= p <= size:
                p = min(max(p, 0.0), size - 1.0)
                low = np.int64(p)
                high = min(low + 1, size - 1)
                _add(weights, i * size + low, (1 - (p - low)) / samples)
                _add(weights, i * size + high, (p - low) / samples)
                first, end = min(first, low), max(end, high + 1)
        ends_at[2 * i] = first
        ends_at[2 * i + 1] = end
        all_first, all_end = min(all_first, first), max(all_end, end)
    return all_first, all_end


@driver(Regions)
def regions(target):
    """Y[region, channel, i, j] = the mean of the samples of bin (i, j). An image's number out of range is reported."""
    X, BOXES, BATCH, Y, IMAGES, CHANNEL_COUNT, H, W = REGIONS["x regions batch y images channels h w"]
    COUNT, OUT_H, OUT_W, SCALE, HALF, RATIO, MICRO, WIDE = REGIONS["count out_h out_w scale half ratio micro wide"]
    AT_PLANE, AT_ROWS, AT_ROW_ENDS, AT_COLUMNS = REGIONS["plane rows row_ends columns"]
    AT_COLUMN_ENDS, AT_LINE, STRIDE = REGIONS["column_ends line stride"]
    ROWS, ROW_ENDS, COLUMNS, COLUMN_ENDS, LINE = PLANE["rows row_ends columns column_ends line"]
    BINS_H, BINS_W, HEIGHT, WIDTH, FIRST, END = PLANE["out_h out_w h w first end"]
    REPORTS = REGIONS.size

    @njit(error_model="numpy")
    def prepare(a, region, plane, mine):
        """The weights of a region. Is there anything to sample?"""
        scale, shift = np.float64(load_f32(block_address(a) + INT64_BYTES * SCALE)), 0.5 if a[HALF] else 0.0
        box = a[BOXES] + region * BOX * FLOAT_BYTES
        x1, y1 = load_f32(box) * scale - shift, load_f32(box + FLOAT_BYTES) * scale - shift
        x2, y2 = load_f32(box + 2 * FLOAT_BYTES) * scale - shift, load_f32(box + 3 * FLOAT_BYTES) * scale - shift
        width, height = x2 - x1, y2 - y1
        if not a[HALF]:
            width, height = max(width, 1.0), max(height, 1.0)
        if not (is_finite(width) and is_finite(height)):
            return False
        _, end = _axis(a[AT_ROWS] + mine, a[AT_ROW_ENDS] + mine, y1, height, a[OUT_H], a[H], a[RATIO])
        plane[FIRST], plane[END] = _axis(
            a[AT_COLUMNS] + mine, a[AT_COLUMN_ENDS] + mine, x1, width, a[OUT_W], a[W], a[RATIO]
        )
        return end > 0 and plane[END] > 0

    def regions(a, tid, nth):
        mine = tid * a[STRIDE]
        plane = as_block(a[AT_PLANE] + mine)
        plane[ROWS], plane[ROW_ENDS] = a[AT_ROWS] + mine, a[AT_ROW_ENDS] + mine
        plane[COLUMNS], plane[COLUMN_ENDS] = a[AT_COLUMNS] + mine, a[AT_COLUMN_ENDS] + mine
        plane[LINE], plane[BINS_H], plane[BINS_W] = a[AT_LINE] + mine, a[OUT_H], a[OUT_W]
        plane[HEIGHT], plane[WIDTH] = a[H], a[W]
        channels, x_plane, y_plane = a[CHANNEL_COUNT], a[H] * a[W] * FLOAT_BYTES, a[OUT_H] * a[OUT_W] * FLOAT_BYTES
        parts = (channels + CHANNELS - 1) // CHANNELS
        work = a[COUNT] * parts
        last, samples = -1, False
        first, end = piece(a, work, nth, 0)
        while first < end:
            for k in range(first, end):
                region = k // parts
                if region != last:
                    samples = prepare(a, region, plane, mine)
                    last = region
                low = (k - region * parts) * CHANNELS
                high = min(low + CHANNELS, channels)
                image = load_integer(a[BATCH], region, a[WIDE])
                y = a[Y] + region * channels * y_plane
                if image < 0 or image >= a[IMAGES]:
                    report = block_address(a) + INT64_BYTES * (REPORTS + 2 * tid)
                    if load_i64(report) == 0:
                        store_i64(report, region + 1)
                        store_i64(report + INT64_BYTES, image)
                elif samples:
                    x = a[X] + image * channels * x_plane
                    for c in range(low, high):
                        call3(a[MICRO], a[AT_PLANE] + mine, x + c * x_plane, y + c * y_plane)
                    continue
                fill_bytes(y + low * y_plane, (high - low) * y_plane, 0)
            first, end = piece(a, work, nth, end)

    return regions, STEP


@njit(error_model="numpy")
def _corner(at, scale):
    """A whole number, halves away from zero; of what is huge, one that is far outside, too."""
    x = min(max(load_f32(at) * scale, -(2.0**60)), 2.0**60)
    return rounded_down(x + 0.5) if x >= 0 else -rounded_down(0.5 - x)


@njit(error_model="numpy")
def _bins(ends, low, high, bins, size):
    """The first pixel of each bin between two corners, both in the region, and the one behind the last."""
    step = max(high - low + 1, 1.0) / bins
    for i in range(bins):
        ends[2 * i] = _within(rounded_down(i * step) + low, size)
        ends[2 * i + 1] = _within(rounded_up((i + 1) * step) + low, size)


@driver(RegionMaxima)
def region_maxima(target):
    """Y[region, channel, i, j] = the largest pixel of bin (i, j), NaN where there is one, 0 where there is none."""
    X, BOXES, Y, IMAGES, CHANNEL_COUNT, H, W = REGION_MAXIMA["x regions y images channels h w"]
    COUNT, OUT_H, OUT_W, SCALE, ENDS, STRIDE = REGION_MAXIMA["count out_h out_w scale ends stride"]
    REPORTS, ROI = REGION_MAXIMA.size, (1 + BOX) * FLOAT_BYTES

    @njit(error_model="numpy")
    def largest(x, width, top, bottom, left, right):
        if top >= bottom or left >= right:
            return np.float32(0)
        found = load_f32(x + FLOAT_BYTES * (top * width + left))
        for i in range(top, bottom):
            row = x + FLOAT_BYTES * i * width
            for j in range(left, right):
                value = load_f32(row + FLOAT_BYTES * j)
                if value > found or value != value:  # one that is no number stays
                    found = value
        return found

    def region_maxima(a, tid, nth):
        rows = as_block(a[ENDS] + tid * a[STRIDE])
        columns = as_block(a[ENDS] + tid * a[STRIDE] + 2 * INT64_BYTES * a[OUT_H])
        channels, h, w, out_h, out_w = a[CHANNEL_COUNT], a[H], a[W], a[OUT_H], a[OUT_W]
        scale = np.float64(load_f32(block_address(a) + INT64_BYTES * SCALE))
        parts = (channels + CHANNELS - 1) // CHANNELS
        work = a[COUNT] * parts
        first, end = piece(a, work, nth, 0)
        while first < end:
            for k in range(first, end):
                region = k // parts
                low = (k - region * parts) * CHANNELS
                high = min(low + CHANNELS, channels)
                box = a[BOXES] + region * ROI
                image, y = load_f32(box), a[Y] + region * channels * out_h * out_w * FLOAT_BYTES
                inside, sizes = image > -1 and image < a[IMAGES], np.float32(0)
                for corner in range(1, 1 + BOX):
                    sizes += load_f32(box + FLOAT_BYTES * corner) * np.float32(0)
                if not inside:
                    report = block_address(a) + INT64_BYTES * (REPORTS + 2 * tid)
                    if load_i64(report) == 0:
                        store_i64(report, region + 1)
                        store_i64(report + INT64_BYTES, np.int64(image))
                if not (inside and is_finite(sizes)):
                    fill_bytes(y + low * out_h * out_w * FLOAT_BYTES, (high - low) * out_h * out_w * FLOAT_BYTES, 0)
                    continue
                x1, y1 = _corner(box + FLOAT_BYTES, scale), _corner(box + 2 * FLOAT_BYTES, scale)
                x2, y2 = _corner(box + 3 * FLOAT_BYTES, scale), _corner(box + 4 * FLOAT_BYTES, scale)
                _bins(rows, y1, y2, out_h, h)
                _bins(columns, x1, x2, out_w, w)
                for c in range(low, high):
                    plane = a[X] + (np.int64(image) * channels + c) * h * w * FLOAT_BYTES
                    for i in range(out_h):
                        for j in range(out_w):
                            value = largest(plane, w, rows[2 * i], rows[2 * i + 1], columns[2 * j], columns[2 * j + 1])
                            store_f32(y + FLOAT_BYTES * ((c * out_h + i) * out_w + j), value)
            first, end = piece(a, work, nth, end)

    return region_maxima, STEP

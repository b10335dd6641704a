"""Means or largest weighted pixels over the bins of regions, sample by sample (RoiAlign)."""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, block_address, load_f32, load_i64, store_i64
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sampling.regions_block import CHANNELS, REGION_SAMPLES, RegionSamples
from graphc.backends.cpu.sampling.whole_njit import is_finite, rounded_up
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES, load_float, load_integer, store_float


@njit(error_model="numpy")
def _count(step, ratio):
    """Samples of a bin along an axis: `ratio`, or about one per pixel."""
    return ratio if ratio > 0 else rounded_up(max(min(step, 2.0**31), 0.0))


@njit(error_model="numpy")
def _near(origin, step, samples, size):
    """The samples of a bin that may lie in [-1, size]: the first, and the one behind the last."""
    if step <= 0 or samples <= 0:
        return 0, samples
    first = max(min((-1 - origin) / step * samples - 2, np.float64(samples)), 0.0)
    end = max(min((size - origin) / step * samples + 2, np.float64(samples)), 0.0)
    return np.int64(first), np.int64(end)


@njit(error_model="numpy")
def _larger(a, b):
    """NaN where one of them is."""
    return a if a > b or a != a else b


@driver(RegionSamples)
def region_samples(target):
    """Y[region, channel, i, j] = the mean, or the largest weighted pixel, of bin (i, j). An image's number out of range is
    reported."""
    X, BOXES, BATCH, WIDE, Y, IMAGES = REGION_SAMPLES["x regions batch wide y images"]
    CHANNEL_COUNT, H, W, COUNT, OUT_H, OUT_W = REGION_SAMPLES["channels h w count out_h out_w"]
    SCALE, HALF, RATIO, AVERAGE, ITEM, BOX_ITEM = REGION_SAMPLES["scale half ratio average item region_item"]
    REPORTS = REGION_SAMPLES.size

    @njit(error_model="numpy")
    def bin_of(a, x, y, channels, top, tall, left, wide, rows, columns):
        """A bin from (top, left) on; rows, columns: how many samples. x, y: of the first channel."""
        h, w, item, average = a[H], a[W], a[ITEM], a[AVERAGE]
        plane, out_plane, count = h * w * item, a[OUT_H] * a[OUT_W] * item, rows * columns
        for c in range(channels):
            store_float(y + c * out_plane, 0.0 if average or count == 0 else -np.inf, item)
        first_row, end_row = _near(top, tall, rows, h)
        first_column, end_column = _near(left, wide, columns, w)
        looked_at = 0
        for r in range(first_row, end_row):
            p = top + (r + 0.5) / rows * tall
            if not -1 <= p <= h:
                continue
            p = min(max(p, 0.0), h - 1.0)
            low = np.int64(p)
            high, lower = min(low + 1, h - 1), p - low
            for s in range(first_column, end_column):
                q = left + (s + 0.5) / columns * wide
                if not -1 <= q <= w:
                    continue
                looked_at += 1
                q = min(max(q, 0.0), w - 1.0)
                near = np.int64(q)
                far, righter = min(near + 1, w - 1), q - near
                at = x
                for c in range(channels):
                    a1 = (1 - lower) * (1 - righter) * load_float(at + (low * w + near) * item, item)
                    a2 = (1 - lower) * righter * load_float(at + (low * w + far) * item, item)
                    a3 = lower * (1 - righter) * load_float(at + (high * w + near) * item, item)
                    a4 = lower * righter * load_float(at + (high * w + far) * item, item)
                    to = y + c * out_plane
                    old = load_float(to, item)
                    new = (
                        old + (a1 + a2 + a3 + a4) / count
                        if average
                        else _larger(old, _larger(_larger(a1, a2), _larger(a3, a4)))
                    )
                    store_float(to, new, item)
                    at += plane
        if not average and looked_at < count:  # a sample outside is 0
            for c in range(channels):
                store_float(y + c * out_plane, _larger(load_float(y + c * out_plane, item), 0.0), item)

    def region_samples(a, tid, nth):
        scale, shift = np.float64(load_f32(block_address(a) + INT64_BYTES * SCALE)), 0.5 if a[HALF] else 0.0
        channels, item, out_h, out_w, unit = a[CHANNEL_COUNT], a[ITEM], a[OUT_H], a[OUT_W], a[BOX_ITEM]
        parts = (channels + CHANNELS - 1) // CHANNELS
        work = a[COUNT] * parts
        first, end = piece(a, work, nth, 0)
        while first < end:
            for k in range(first, end):
                region = k // parts
                low = (k - region * parts) * CHANNELS
                count = min(CHANNELS, channels - low)
                image, box = load_integer(a[BATCH], region, a[WIDE]), a[BOXES] + 4 * region * unit
                y = a[Y] + (region * channels + low) * out_h * out_w * item
                x1, y1 = load_float(box, unit) * scale - shift, load_float(box + unit, unit) * scale - shift
                x2, y2 = (
                    load_float(box + 2 * unit, unit) * scale - shift,
                    load_float(box + 3 * unit, unit) * scale - shift,
                )
                width, height = x2 - x1, y2 - y1
                if not a[HALF]:
                    width, height = max(width, 1.0), max(height, 1.0)
                inside = 0 <= image < a[IMAGES]
                if not inside:
                    report = block_address(a) + INT64_BYTES * (REPORTS + 2 * tid)
                    if load_i64(report) == 0:
                        store_i64(report, region + 1)
                        store_i64(report + INT64_BYTES, image)
                tall, wide = height / out_h, width / out_w
                rows, columns = 0, 0
                if inside and is_finite(width) and is_finite(height):
                    rows, columns = _count(tall, a[RATIO]), _count(wide, a[RATIO])
                else:
                    x1 = y1 = tall = wide = 0.0
                    image = 0
                x = a[X] + (image * channels + low) * a[H] * a[W] * item
                for i in range(out_h):
                    for j in range(out_w):
                        to = y + (i * out_w + j) * item
                        bin_of(a, x, to, count, y1 + i * tall, tall, x1 + j * wide, wide, rows, columns)
            first, end = piece(a, work, nth, end)

    return region_samples, STEP

"""Bins of regions of images: samples on a grid, each between four pixels (RoiAlign), or whole pixels (MaxRoiPool)."""

from __future__ import annotations

from numba.cuda.extending import register_jitable
from numba.cuda.types import float64, int64

from graphc.backends.cuda.codegen.device import load, register, store, word
from graphc.backends.cuda.codegen.guarded import divide_wide
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.sampling.regions_block import REGION_MAXIMA, REGIONS, RegionMaxima, Regions
from graphc.backends.cuda.sampling.whole_kernels import is_finite, rounded_down, rounded_up
from graphc.backends.cuda.verbs.index_block import POSITIONS
from graphc.backends.cuda.verbs.index_kernels import position_at, report, reporter
from graphc.types import dtype_from_name

MOST_SAMPLES = 2.0**31  # of a bin along an axis
BOX = 4  # numbers of a region: x1, y1, x2, y2

TOTAL, X, BOXES, Y, IMAGES, CHANNELS, H, W = REGIONS["total x boxes y images channels h w"]
OUT_H, OUT_W, SCALE, HALF, RATIO, IMAGE, PLANE, ROW = REGIONS["out_h out_w scale half ratio image plane row"]
REPORT = 8 * REGIONS.size
assert REGIONS["indices wide"] == POSITIONS["indices wide"]
read_scale = load("float64")


@register_jitable
def _larger(a, b):
    """NaN where one of them is."""
    return a if a > b or a != a else b


@register_jitable
def _within(x, most):
    """The whole part of x, from 0 to `most`."""
    return int64(max(min(x, float64(most)), 0.0))


@register_jitable
def _samples(step, ratio):
    """Of a bin along an axis: as many as asked for, or about one per pixel."""
    return ratio if ratio > 0 else int64(rounded_up(max(min(step, MOST_SAMPLES), 0.0)))


@register_jitable
def _worthwhile(origin, step, samples, size):
    """[first, end) of the samples of a bin; those outside of [-1, size] are not worth the way."""
    if step > 0.0 and samples > 0:
        near = _within((-1.0 - origin) / step * samples - 2.0, samples)
        return near, _within((size - origin) / step * samples + 2.0, samples)
    return int64(0), samples


@makes(Regions)
def regions(dtype: str, box: str, largest: bool) -> Code:
    kind, element = register(summed(dtype_from_name(dtype))), register(dtype)
    item, box_item = dtype_from_name(dtype).itemsize, dtype_from_name(box).itemsize
    get, put, corner = load(dtype), store(dtype), load(box)
    LEAST = kind(float("-inf")) if largest else kind(0)

    @register_jitable
    def bin_of(a, plane, y1, x1, height, width, i, j):
        """The number of bin (i, j) of a channel."""
        step_y, step_x = height / word(a, OUT_H), width / word(a, OUT_W)
        ratio, h, w, row = word(a, RATIO), word(a, H), word(a, W), word(a, ROW)
        samples_y, samples_x = _samples(step_y, ratio), _samples(step_x, ratio)
        if samples_y <= 0 or samples_x <= 0:
            return kind(0)
        near_y, far_y = _worthwhile(y1 + i * step_y, step_y, samples_y, h)
        near_x, far_x = _worthwhile(x1 + j * step_x, step_x, samples_x, w)
        total = LEAST
        outside = far_y - near_y < samples_y or far_x - near_x < samples_x
        for s in range(near_y, far_y):
            p = y1 + (i + (s + 0.5) / samples_y) * step_y
            if not (p >= -1.0 and p <= h):
                outside = True
                continue
            p = min(max(p, 0.0), h - 1.0)
            top = int64(p)
            upper = plane + top * row
            lower = plane + min(top + 1, h - 1) * row
            lower_part, upper_part = kind(p - top), kind(1.0 - (p - top))
            for r in range(near_x, far_x):
                p = x1 + (j + (r + 0.5) / samples_x) * step_x
                if not (p >= -1.0 and p <= w):
                    outside = True
                    continue
                p = min(max(p, 0.0), w - 1.0)
                left = int64(p)
                right = min(left + 1, w - 1) * item
                right_part, left_part = kind(p - left), kind(1.0 - (p - left))
                left *= item
                one = kind(kind(get(upper + left)) * kind(upper_part * left_part))
                two = kind(kind(get(upper + right)) * kind(upper_part * right_part))
                three = kind(kind(get(lower + left)) * kind(lower_part * left_part))
                four = kind(kind(get(lower + right)) * kind(lower_part * right_part))
                if largest:  # of the weighted corners, not of the samples, as ONNX says
                    total = _larger(total, _larger(_larger(one, two), _larger(three, four)))
                else:
                    total = kind(total + kind(kind(one + two) + kind(three + four)))
        if largest:
            return _larger(total, kind(0)) if outside else total
        return kind(total / kind(float64(samples_y) * float64(samples_x)))

    def regions(a):
        number = thread_number(THREADS)
        if number < word(a, TOTAL):
            out_h, out_w = word(a, OUT_H), word(a, OUT_W)
            rest = divide_wide(number, out_w)
            j = number - rest * out_w
            plane = divide_wide(rest, out_h)
            i = rest - plane * out_h
            region = divide_wide(plane, word(a, CHANNELS))
            channel = plane - region * word(a, CHANNELS)
            image = position_at(a, region)
            result = kind(0)
            if image < 0 or image >= word(a, IMAGES):
                if channel == 0 and i == 0 and j == 0:
                    report(a, a + REPORT, region)
            else:
                scale, half = read_scale(a + 8 * SCALE), word(a, HALF) != 0
                shift = 0.5 if half else 0.0
                at = word(a, BOXES) + region * (BOX * box_item)
                x1, y1 = float64(corner(at)) * scale - shift, float64(corner(at + box_item)) * scale - shift
                x2 = float64(corner(at + 2 * box_item)) * scale - shift
                y2 = float64(corner(at + 3 * box_item)) * scale - shift
                width, height = x2 - x1, y2 - y1
                if not half:
                    width, height = max(width, 1.0), max(height, 1.0)
                if is_finite(width) and is_finite(height) and is_finite(x1) and is_finite(y1):
                    start = word(a, X) + image * word(a, IMAGE) + channel * word(a, PLANE)
                    result = bin_of(a, start, y1, x1, height, width, i, j)
            put(word(a, Y) + number * item, element(result))

    return Code(regions)


@register_jitable
def _whole(x):
    """Rounded, halves away from zero."""
    return rounded_down(x + 0.5) if x >= 0 else -rounded_down(0.5 - x)


@makes(RegionMaxima)
def region_maxima(dtype: str) -> Code:
    TOTAL, X, REGIONS, Y, IMAGES, CHANNELS, H, W = REGION_MAXIMA["total x regions y images channels h w"]
    OUT_H, OUT_W, SCALE, IMAGE, PLANE, ROW = REGION_MAXIMA["out_h out_w scale image plane row"]
    REPORT, ROI = 8 * REGION_MAXIMA.size, 1 + BOX
    kind, element = register(summed(dtype_from_name(dtype))), register(dtype)
    item, get, put = dtype_from_name(dtype).itemsize, load(dtype), store(dtype)

    @register_jitable
    def number_at(a, region, column):
        return float64(kind(get(word(a, REGIONS) + (region * ROI + column) * item)))

    @register_jitable
    def image_at(a, region):
        return int64(number_at(a, region, 0))

    wrong = reporter(image_at)

    @register_jitable
    def corner(a, region, column):
        return _whole(number_at(a, region, 1 + column) * read_scale(a + 8 * SCALE))

    def region_maxima(a):
        number = thread_number(THREADS)
        if number < word(a, TOTAL):
            out_h, out_w, h, w = word(a, OUT_H), word(a, OUT_W), word(a, H), word(a, W)
            rest = divide_wide(number, out_w)
            j = number - rest * out_w
            plane = divide_wide(rest, out_h)
            i = rest - plane * out_h
            region = divide_wide(plane, word(a, CHANNELS))
            channel = plane - region * word(a, CHANNELS)
            image = number_at(a, region, 0)
            result = kind(0)
            if not (image > -1.0 and image < word(a, IMAGES)):
                if channel == 0 and i == 0 and j == 0:
                    wrong(a, a + REPORT, region)
            else:
                x1, y1, x2, y2 = corner(a, region, 0), corner(a, region, 1), corner(a, region, 2), corner(a, region, 3)
                if is_finite(x2 - x1) and is_finite(y2 - y1):
                    step_y, step_x = max(y2 - y1 + 1.0, 1.0) / out_h, max(x2 - x1 + 1.0, 1.0) / out_w
                    top, bottom = (
                        _within(rounded_down(i * step_y) + y1, h),
                        _within(rounded_up((i + 1) * step_y) + y1, h),
                    )
                    left, right = (
                        _within(rounded_down(j * step_x) + x1, w),
                        _within(rounded_up((j + 1) * step_x) + x1, w),
                    )
                    start = word(a, X) + int64(image) * word(a, IMAGE) + channel * word(a, PLANE)
                    if top < bottom and left < right:
                        result = kind(get(start + top * word(a, ROW) + left * item))
                    for y in range(top, bottom):
                        for x in range(left, right):
                            value = kind(get(start + y * word(a, ROW) + x * item))
                            if value > result or value != value:  # one that is no number stays
                                result = value
            put(word(a, Y) + number * item, element(result))

    return Code(region_maxima)

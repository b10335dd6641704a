"""Pixels of images at the positions of a grid (GridSample). A position that is not finite is reported."""

from __future__ import annotations

from numba import cuda
from numba.cuda import types
from numba.cuda.extending import register_jitable
from numba.cuda.types import float64, int64

from graphc.backends.cuda.codegen.atomics import exchange
from graphc.backends.cuda.codegen.device import load, register, store, word
from graphc.backends.cuda.codegen.guarded import divide_wide
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.sampling.grid_block import BORDER, GRID, REFLECTION, TAPS, ZEROS, Grid
from graphc.backends.cuda.sampling.whole_kernels import is_finite, nearest, rounded_down
from graphc.types import dtype_from_name

FAR = 2.0**40  # pixels: positions beyond are like this one
CUBIC = -0.75  # the parameter of the cubic weights

TOTAL, X, POSITIONS, Y, CHANNELS, EACH, PARTS = GRID["total x positions y channels each parts"]
POINTS, ALIGN, PADDING, SIZES, STEPS, IMAGE, PLANE = GRID["points align padding sizes steps image plane"]
REPORT = 8 * GRID.size


@register_jitable
def _reflected(p, low, high):
    """A position mirrored at both borders until it is within."""
    span = high - low
    if span <= 0.0:
        return 0.0
    offset = abs(p - low)
    turns = rounded_down(offset / span)
    rest = offset - turns * span
    return high - rest if int64(turns) & 1 else low + rest


@register_jitable
def _pixel(index, size, align, padding, cubic):
    """The pixel that stands for one at `index`, -1 where none is read: infinity times a weight of 0 would be NaN."""
    if index >= 0.0 and index < size:
        return int64(index)
    if padding == ZEROS or (padding == BORDER and not cubic):
        return int64(-1)
    if padding == REFLECTION:
        low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
        index = _reflected(index, low, high)
    return min(max(int64(index), int64(0)), int64(size - 1.0))


@register_jitable
def _near(d):
    return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1


@register_jitable
def _far(d):
    return ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC


@makes(Grid)
def grid(dtype: str, position: str, dims: int, mode: str) -> Code:
    """A thread finds the pixels around a point and their weights, and uses them for some channels."""
    kind, item = register(summed(dtype_from_name(dtype))), dtype_from_name(dtype).itemsize
    element, place = register(dtype), register(position)
    place_item = dtype_from_name(position).itemsize
    taps, is_nearest, is_cubic = TAPS[mode], mode == "nearest", mode == "cubic"
    OF_AXES = dims * taps
    taps_h, taps_d = taps if dims > 1 else 1, taps if dims > 2 else 1
    ALL = taps * taps_h * taps_d
    get, put, where = load(dtype), store(dtype), load(position)

    @register_jitable
    def position_of(g, size, align, padding):
        """A position of the grid, from -1 to 1, in pixels."""
        if is_nearest:  # rounded as the reference rounds: which pixel is nearest hangs on that
            wide = float64(place(float64(g) + 1.0))
            if align:
                p = float64(place(float64(place(wide * 0.5)) * (size - 1.0)))
            else:
                p = float64(place(float64(place(float64(place(wide * size)) - 1.0)) * 0.5))
            p = nearest(max(min(p, FAR), -FAR))
        else:
            wide = float64(g) + 1.0
            p = wide / 2.0 * (size - 1.0) if align else (wide * size - 1.0) / 2.0
            p = max(min(p, FAR), -FAR)
        if padding == BORDER and not is_cubic:
            return max(min(p, size - 1.0), 0.0)
        low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
        return _reflected(p, low, high) if padding == REFLECTION and (p < low or p > high) else p

    def grid(a):
        of_axes = cuda.local.array(OF_AXES, int64)
        axis_weights = cuda.local.array(OF_AXES, types.float64)
        offsets = cuda.local.array(ALL, int64)
        weights = cuda.local.array(ALL, kind)
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            points, align, padding = word(a, POINTS), word(a, ALIGN) != 0, word(a, PADDING)
            rest = divide_wide(i, points)
            point = i - rest * points
            n = divide_wide(rest, word(a, PARTS))
            first = (rest - n * word(a, PARTS)) * word(a, EACH)
            at = word(a, POSITIONS) + (n * points + point) * (dims * place_item)
            finite = True
            for axis in range(dims):
                finite &= is_finite(where(at + axis * place_item))
            if not finite:
                exchange(a + REPORT, n * points + point + 1)
            for axis in range(dims):
                size, step = float64(word(a, SIZES + axis)), word(a, STEPS + axis)
                g = where(at + axis * place_item) if finite else place(1)
                p = position_of(g, size, align, padding)
                base = float64(int64(p)) if is_nearest else rounded_down(p)
                part = p - base
                if is_cubic:
                    base -= 1.0
                    axis_weights[4 * axis] = _far(1.0 + part)
                    axis_weights[4 * axis + 1] = _near(part)
                    axis_weights[4 * axis + 2] = _near(1.0 - part)
                    axis_weights[4 * axis + 3] = _far(2.0 - part)
                elif is_nearest:
                    axis_weights[axis] = 1.0
                else:
                    axis_weights[2 * axis] = 1.0 - part
                    axis_weights[2 * axis + 1] = part
                for k in range(taps):
                    pixel = _pixel(base + k, size, align, padding, is_cubic)
                    of_axes[axis * taps + k] = pixel * step if pixel >= 0 else -1
            for d in range(taps_d):
                for h in range(taps_h):
                    for w in range(taps):
                        offset, weight = of_axes[w], axis_weights[w]
                        if dims > 1:
                            other = of_axes[taps + h]
                            offset = offset + other if offset >= 0 and other >= 0 else -1
                            weight = axis_weights[taps + h] * weight
                        if dims > 2:
                            other = of_axes[2 * taps + d]
                            offset = offset + other if offset >= 0 and other >= 0 else -1
                            weight = axis_weights[2 * taps + d] * weight
                        offsets[(d * taps_h + h) * taps + w] = offset
                        weights[(d * taps_h + h) * taps + w] = kind(weight)
            channels = word(a, CHANNELS)
            x = word(a, X) + n * word(a, IMAGE) + first * word(a, PLANE)
            y = word(a, Y) + ((n * channels + first) * points + point) * item
            for _ in range(min(channels - first, word(a, EACH))):
                total = kind(0)
                for k in range(ALL):
                    if offsets[k] >= 0:
                        total = kind(total + kind(get(x + offsets[k])) * weights[k])
                put(y, element(total))
                x += word(a, PLANE)
                y += points * item

    return Code(grid)

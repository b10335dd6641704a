"""Positions of a grid in pixels, and which pixels lie around them."""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.sampling.grid_block import BORDER, REFLECTION
from graphc.backends.cpu.sampling.whole_njit import nearest as nearest_whole
from graphc.backends.cpu.sampling.whole_njit import rounded_down

ONE, HALF = np.float32(1), np.float32(0.5)
FAR = 2.0**40  # pixels: positions beyond are like this one
NOT_READ = -(2**32)  # a sum with it is negative
CUBIC = -0.75  # Keys, Cubic convolution interpolation for digital image processing, 1981: a


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
def _padded(p, size, align, padding):
    if padding == BORDER:
        return max(min(p, size - 1.0), 0.0)
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    return _reflected(p, low, high) if padding == REFLECTION and (p < low or p > high) else p


@njit(error_model="numpy")
def position(g, size, align, padding):
    """A position of the grid, from -1 to 1, in pixels."""
    wide = np.float64(g) + 1
    p = wide / 2 * (size - 1) if align else (wide * size - 1) / 2
    return _padded(max(min(p, FAR), -FAR), size, align, padding)


@njit(error_model="numpy")
def nearest(g, size, item, align, padding):
    """The nearest pixel of a position of `item` bytes: rounded as numbers of so many are, since which one is nearest hangs on
    that."""
    if item == 8:
        p = (g + 1) / 2 * (size - 1) if align else ((g + 1) * size - 1) / 2
    else:
        from_low = np.float32(g) + ONE
        p32 = from_low * HALF * np.float32(size - 1) if align else (from_low * np.float32(size) - ONE) * HALF
        p = np.float64(p32)
    return _padded(np.float64(nearest_whole(max(min(p, FAR), -FAR))), size, align, padding)


@njit(error_model="numpy")
def pixel(index, size, align, padding):
    """The pixel that stands for one at `index`, NOT_READ where none does."""
    if 0 <= index < size:
        return index
    if padding != REFLECTION:
        return NOT_READ
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    return max(min(np.int64(_reflected(np.float64(index), low, high)), size - 1), 0)


@njit(error_model="numpy")
def cubic_weight(distance):
    """Of a pixel so far away, up to 2."""
    if distance <= 1:
        return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    return ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC

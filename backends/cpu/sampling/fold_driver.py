"""Blocks of pixels, added up where they come from (Col2Im): for each element of the blocks, row by row."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, as_block, call2, fill_bytes, load_f32, store_f32
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sampling.fold_block import FOLD, Fold
from graphc.backends.cpu.verbs.items_njit import load_f64, store_f64


@njit(error_model="numpy")
def _add_row(y, x, n, stride, item):
    """y[i stride] += x[i]."""
    if item == 8:
        for i in range(n):
            at = y + 8 * i * stride
            store_f64(at, load_f64(at) + load_f64(x + 8 * i))
    else:
        for i in range(n):
            at = y + 4 * i * stride
            store_f32(at, load_f32(at) + load_f32(x + 4 * i))


@driver(Fold, computes=True)
def fold(target):
    """Y = zeros, to which X is added. Threads share the planes."""
    X, Y, PLANES, RANK, ITEM, MICRO, OPERANDS, APART = FOLD["x y planes rank item micro operands apart"]
    IMAGE, BLOCK, COUNT, DILATION, PAD, STRIDE = FOLD.in_record("image block count dilation pad stride")
    FIRST, WORDS = FOLD.size, FOLD.record_size

    @njit(error_model="numpy")
    def row_of(a, tap, row, last):
        """The row of pixels, by its number, that a row of blocks falls on with one of their elements; -1 where that is outside."""
        at, scale = 0, 1
        for d in range(last - 1, -1, -1):
            r = FIRST + WORDS * d
            i = row % a[r + COUNT] * a[r + STRIDE] + tap % a[r + BLOCK] * a[r + DILATION] - a[r + PAD]
            if i < 0 or i >= a[r + IMAGE]:
                return -1
            at += i * scale
            scale *= a[r + IMAGE]
            row //= a[r + COUNT]
            tap //= a[r + BLOCK]
        return at

    def fold(a, tid, nth):
        last, item, table = a[RANK] - 1, a[ITEM], a[OPERANDS] + tid * a[APART]
        operands = as_block(table)
        r = FIRST + WORDS * last
        width, block, count, stride = a[r + IMAGE], a[r + BLOCK], a[r + COUNT], a[r + STRIDE]
        plane, taps, rows = width, block, 1
        for d in range(last):
            plane *= a[FIRST + WORDS * d + IMAGE]
            taps *= a[FIRST + WORDS * d + BLOCK]
            rows *= a[FIRST + WORDS * d + COUNT]
        first, end = piece(a, a[PLANES], nth, 0)
        while first < end:
            fill_bytes(a[Y] + first * plane * item, (end - first) * plane * item, 0)
            for k in range(first, end):
                y, x = a[Y] + k * plane * item, a[X] + k * taps * rows * count * item
                for tap in range(taps):
                    start = tap % block * a[r + DILATION] - a[r + PAD]
                    low = (stride - 1 - start) // stride if start < 0 else 0
                    high = min((width - 1 - start) // stride + 1, count) if start < width else 0
                    for row in range(rows):
                        to = row_of(a, tap // block, row, last)
                        if to >= 0 and low < high:
                            at = y + (to * width + start + low * stride) * item
                            if stride > 1:
                                _add_row(at, x + low * item, high - low, stride, item)
                            else:
                                operands[0] = operands[1] = at
                                operands[2] = x + low * item
                                call2(a[MICRO], high - low, table)
                        x += count * item
            first, end = piece(a, a[PLANES], nth, end)

    return fold, STEP

"""Resizing along an axis that is not the last: every row of the result is a weighted sum of rows."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call3, load_i64, store_i64
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.verbs.blend_block import BLEND_AXIS, BlendAxis

X, Y, OUTER, OUT, INNER, X_BYTES, ROW_BYTES = BLEND_AXIS["x y outer out inner x_bytes row_bytes"]
TAPS, OFFSETS, WEIGHTS, MICRO, SCRATCH, SCRATCH_STRIDE = BLEND_AXIS["taps offsets weights micro scratch scratch_stride"]


@driver(BlendAxis)
def blend_axis(target):
    """Calls `blend_rows` for each of OUTER x OUT rows of INNER elements."""

    def blend_axis(a, tid, nth):
        table, taps = a[SCRATCH] + tid * a[SCRATCH_STRIDE], a[TAPS]
        rows = a[OUTER] * a[OUT]
        for row in range(rows * tid // nth, rows * (tid + 1) // nth):
            outer = row // a[OUT]
            first = (row - outer * a[OUT]) * taps
            x = a[X] + outer * a[X_BYTES]
            store_i64(table, a[Y] + row * a[ROW_BYTES])
            for t in range(taps):
                store_i64(table + 16 * t + 8, x + load_i64(a[OFFSETS] + 8 * (first + t)))
                store_i64(table + 16 * t + 16, load_i64(a[WEIGHTS] + 8 * (first + t)))
            call3(a[MICRO], taps, a[INNER], table)

    return blend_axis, STEP

"""Strided copies: every operator that only moves elements."""

from __future__ import annotations

from backends.cpu.intrinsics import STEP, copy_bytes, load_u8, load_u16, load_u32, load_i64, store_u8, store_u16, store_u32, store_i64
from backends.cpu.toolchain import driver

MAX_DIMS = 7
X, Y, ITEM, LENGTH, XS, YS, DIMS = range(7)  # innermost loop: LENGTH elements, byte strides XS and YS
X_STRIDES = DIMS + MAX_DIMS  # outer loops: MAX_DIMS extents (innermost first), then strides of x and of y
Y_STRIDES = X_STRIDES + MAX_DIMS


@driver("copy_strided")
def copy_strided(target):
    """Copy elements of 1, 2, 4 or 8 bytes between any two strided views of equal shape. Strides may be 0 or negative."""

    def copy_strided(a, tid, nth):
        item, n, xs, ys = a[ITEM], a[LENGTH], a[XS], a[YS]
        rows = 1
        for d in range(MAX_DIMS):
            rows *= a[DIMS + d]
        first, last = 0, n
        r0, r1 = rows * tid // nth, rows * (tid + 1) // nth
        if rows < 4 * nth:  # few long rows: cut the rows themselves
            r0, r1 = 0, rows
            first, last = n * tid // nth, n * (tid + 1) // nth
        for row in range(r0, r1):
            x, y, rest = a[X] + first * xs, a[Y] + first * ys, row
            for d in range(MAX_DIMS):
                extent = a[DIMS + d]
                if extent > 1:
                    up = rest // extent
                    at = rest - up * extent
                    x += at * a[X_STRIDES + d]
                    y += at * a[Y_STRIDES + d]
                    rest = up
            if xs == item and ys == item:
                copy_bytes(y, x, (last - first) * item)
            elif item == 4:
                for i in range(last - first):
                    store_u32(y + i * ys, load_u32(x + i * xs))
            elif item == 8:
                for i in range(last - first):
                    store_i64(y + i * ys, load_i64(x + i * xs))
            elif item == 1:
                for i in range(last - first):
                    store_u8(y + i * ys, load_u8(x + i * xs))
            else:
                for i in range(last - first):
                    store_u16(y + i * ys, load_u16(x + i * xs))

    return copy_strided, STEP

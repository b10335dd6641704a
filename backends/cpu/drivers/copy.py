"""Strided copies: every operator that only moves elements."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import (
    STEP,
    call5,
    copy_bytes,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
)
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import COPY_DIMS

X, Y, ITEM, LENGTH, XS, YS, DIMS = range(7)  # innermost loop: LENGTH elements, byte strides XS and YS
X_STRIDES = DIMS + COPY_DIMS  # outer loops: COPY_DIMS extents (innermost first), then strides of x and of y
Y_STRIDES = X_STRIDES + COPY_DIMS


@driver("copy_strided")
def copy_strided(target):
    """Copy elements of 1, 2, 4 or 8 bytes between any two strided views of equal shape. Strides may be 0 or negative."""

    def copy_strided(a, tid, nth):
        item, n, xs, ys = a[ITEM], a[LENGTH], a[XS], a[YS]
        rows = 1
        for d in range(COPY_DIMS):
            rows *= a[DIMS + d]
        first, last = 0, n
        r0, r1 = rows * tid // nth, rows * (tid + 1) // nth
        if rows < 4 * nth:  # few long rows: cut the rows themselves
            r0, r1 = 0, rows
            first, last = n * tid // nth, n * (tid + 1) // nth
        for row in range(r0, r1):
            x, y, rest = a[X] + first * xs, a[Y] + first * ys, row
            for d in range(COPY_DIMS):
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


# the last two loops as tiles of T x T elements: x[column + row * X_ROW] -> y[row + column * Y_COLUMN]
T_X, T_Y, T_MICRO, TILE, T_ITEM, ROWS, COLUMNS, X_ROW, Y_COLUMN, T_DIMS = range(10)
T_X_STRIDES = T_DIMS + COPY_DIMS
T_Y_STRIDES = T_X_STRIDES + COPY_DIMS


@driver("transpose_tiles")
def transpose_tiles(target):
    """Calls `transpose_panel` for each panel of TILE rows; the last panel overlaps the one before it."""

    def transpose_tiles(a, tid, nth):
        panels = (a[ROWS] + a[TILE] - 1) // a[TILE]
        work = panels
        for d in range(COPY_DIMS):
            work *= a[T_DIMS + d]
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            rest = k // panels
            row = min((k - rest * panels) * a[TILE], a[ROWS] - a[TILE])
            x, y = a[T_X] + row * a[X_ROW], a[T_Y] + row * a[T_ITEM]
            for d in range(COPY_DIMS):
                extent = a[T_DIMS + d]
                if extent > 1:
                    up = rest // extent
                    x += (rest - up * extent) * a[T_X_STRIDES + d]
                    y += (rest - up * extent) * a[T_Y_STRIDES + d]
                    rest = up
            call5(a[T_MICRO], a[COLUMNS], x, a[X_ROW], y, a[Y_COLUMN])

    return transpose_tiles, STEP

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
from graphc.backends.cpu.verbs.copy_block import COPY_STRIDED, TRANSPOSE_TILES, CopyStrided, TransposeTiles


@driver(CopyStrided)
def copy_strided(target):
    """Copy elements of 1, 2, 4 or 8 bytes between any two strided views of equal shape. Strides may be 0 or negative."""
    X, Y, ITEM, LENGTH, X_STEP, Y_STEP = COPY_STRIDED["x y item length x_step y_step"]
    DIMS, X_STRIDES, Y_STRIDES = COPY_STRIDED["dims x_strides y_strides"]

    def copy_strided(a, tid, nth):
        item, n, xs, ys = a[ITEM], a[LENGTH], a[X_STEP], a[Y_STEP]
        rows = 1
        for d in range(COPY_DIMS):
            rows *= a[DIMS + d]
        first, last = 0, n
        r0, r1 = rows * tid // nth, rows * (tid + 1) // nth
        if rows < 4 * nth:  # few long rows: cut the rows themselves
            r0, r1 = 0, rows
            first, last = n * tid // nth, n * (tid + 1) // nth
        row = r0
        while (
            row < r1
        ):  # rows that follow each other along the first of the dims: divisions would take longer than a short row
            x, y, rest, together = a[X] + first * xs, a[Y] + first * ys, row, 1
            for d in range(COPY_DIMS):
                extent = a[DIMS + d]
                if extent > 1:
                    up = rest // extent
                    at = rest - up * extent
                    x += at * a[X_STRIDES + d]
                    y += at * a[Y_STRIDES + d]
                    rest = up
                    if d == 0:
                        together = min(extent - at, r1 - row)
            for _ in range(together):
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
                x += a[X_STRIDES]
                y += a[Y_STRIDES]
            row += together

    return copy_strided, STEP


@driver(TransposeTiles)
def transpose_tiles(target):
    """Calls `transpose_panel` for each panel of TILE rows; the last panel overlaps the one before it."""
    X, Y, MICRO, TILE, ITEM, ROWS, COLUMNS = TRANSPOSE_TILES["x y micro tile item rows columns"]
    X_ROW, Y_COLUMN, DIMS, X_STRIDES, Y_STRIDES = TRANSPOSE_TILES["x_row y_column dims x_strides y_strides"]

    def transpose_tiles(a, tid, nth):
        panels = (a[ROWS] + a[TILE] - 1) // a[TILE]
        work = panels
        for d in range(COPY_DIMS):
            work *= a[DIMS + d]
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            rest = k // panels
            row = min((k - rest * panels) * a[TILE], a[ROWS] - a[TILE])
            x, y = a[X] + row * a[X_ROW], a[Y] + row * a[ITEM]
            for d in range(COPY_DIMS):
                extent = a[DIMS + d]
                if extent > 1:
                    up = rest // extent
                    x += (rest - up * extent) * a[X_STRIDES + d]
                    y += (rest - up * extent) * a[Y_STRIDES + d]
                    rest = up
            call5(a[MICRO], a[COLUMNS], x, a[X_ROW], y, a[Y_COLUMN])

    return transpose_tiles, STEP

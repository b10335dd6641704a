"""Copies that read through one table of positions per axis: padding, cropping, nearest-neighbour resizing."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, copy_bytes, load_i64
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import TABLE_DIMS
from graphc.backends.cpu.verbs.items_njit import copy_element
from graphc.backends.cpu.verbs.tables_block import COPY_TABLES, CopyTables

X, Y, FILL, ITEM, N, TABLE, RUN, RUN_END, DIMS, TABLES = COPY_TABLES["x y fill item n table run run_end dims tables"]


@njit(error_model="numpy")
def _by_table(y, x, fill, table, first, last, item, outside):
    """y[i] = *(x + table[i]), or the fill, for i in [first, last)."""
    for i in range(first, last):
        offset = load_i64(table + 8 * i)
        copy_element(y + item * i, fill if outside or offset < 0 else x + offset, item)


@driver(CopyTables)
def copy_tables(target):
    """Rows of Y from rows of X: outside of X they are all fill."""

    def copy_tables(a, tid, nth):
        item, n, table, fill = a[ITEM], a[N], a[TABLE], a[FILL]
        rows = 1
        for d in range(TABLE_DIMS):
            rows *= a[DIMS + d]
        for row in range(rows * tid // nth, rows * (tid + 1) // nth):
            x, rest, outside = a[X], row, False
            for d in range(TABLE_DIMS):
                extent = a[DIMS + d]
                if extent > 1 or a[TABLES + d] != 0:
                    up = rest // extent
                    offset = load_i64(a[TABLES + d] + 8 * (rest - up * extent))
                    outside = outside or offset < 0
                    x += offset
                    rest = up
            y = a[Y] + row * n * item
            run, end = (0, 0) if outside else (a[RUN], a[RUN_END])
            if run < end:
                copy_bytes(y + run * item, x + load_i64(table + 8 * run), (end - run) * item)
            for part in range(2):
                first, last = (0, run) if part == 0 else (end, n)
                _by_table(y, x, fill, table, first, last, item, outside)

    return copy_tables, STEP

"""Max and average pooling in NCHW[c]c over 1, 2 or 3 spatial dims."""

from __future__ import annotations

from numba import njit, types

from graphc.backends.cpu.codegen.intrinsics import STEP, call4, float_bits, store_i64
from graphc.backends.cpu.conv.window_njit import counted, window
from graphc.backends.cpu.executor.work_njit import piece, row_of
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.pool.pool_block import POOL, POOL_ROW, Pool

WIDE, NARROW, X, Y, N, BLOCKS = POOL["wide narrow x y n blocks"]
IN_D, IN_H, IN_W, OUT_D, OUT_H, OUT_W = POOL["in_d in_h in_w out_d out_h out_w"]
K_D, K_H, K_W, S_D, S_H, S_W, D_D, D_H, D_W = POOL["k_d k_h k_w s_d s_h s_w d_d d_h d_w"]
P_D, P_H, P_W, END_D, END_H, END_W, PADDED = POOL["p_d p_h p_w end_d end_h end_w padded"]
XS_N, XS_BLOCK, XS_D, XS_H = POOL["xs_n xs_block xs_d xs_h"]
YS_N, YS_BLOCK, YS_D, YS_H = POOL["ys_n ys_block ys_d ys_h"]
MR, RUN, SCRATCH, STRIDE = POOL["mr run scratch stride"]
PLANES, ROWS, COLUMNS, PLANE, ROW, COLUMN, PIXEL, PIXELS = POOL_ROW["planes rows columns plane row column pixel pixels"]


@njit(error_model="numpy")
def _interior(a):
    """First and one past last of the output columns whose windows lie inside the row."""
    room = a[IN_W] - 1 - (a[K_W] - 1) * a[D_W] + a[P_W]  # of the first position of the last window
    first = min(a[OUT_W], (a[P_W] + a[S_W] - 1) // a[S_W])
    return first, min(a[OUT_W], max(first, room // a[S_W] + 1)) if room >= 0 else first


@njit(error_model="numpy")
def _begin_row(a, block, n, c, d, h):
    """Sets the window's planes and rows for a row of outputs. Gives the first of them, and how many an average counts."""
    in_d, in_h = d * a[S_D] - a[P_D], h * a[S_H] - a[P_H]
    kd0, kd1 = window(in_d, a[D_D], a[K_D], a[IN_D])
    kh0, kh1 = window(in_h, a[D_H], a[K_H], a[IN_H])
    store_i64(block + 8 * PLANES, kd1 - kd0)
    store_i64(block + 8 * ROWS, kh1 - kh0)
    count = counted(in_d, a[D_D], a[K_D], a[IN_D], a[P_D], a[END_D], a[PADDED])
    count *= counted(in_h, a[D_H], a[K_H], a[IN_H], a[P_H], a[END_H], a[PADDED])
    x = a[X] + n * a[XS_N] + c * a[XS_BLOCK] + (in_d + kd0 * a[D_D]) * a[XS_D] + (in_h + kh0 * a[D_H]) * a[XS_H]
    return x, count


@njit(error_model="numpy")
def _pool_row(a, block, x, y, rows, first, last, vector):
    """One row of outputs. rows: how many rows of the window an average counts. first, last: see `_interior`."""
    out_w, mr, k_w, s_w, d_w, p_w, in_w = a[OUT_W], a[MR], a[K_W], a[S_W], a[D_W], a[P_W], a[IN_W]
    w = 0
    while w < out_w:
        count, micro = mr, a[WIDE]
        kw0, kw1 = 0, k_w
        if a[RUN] != 0 and w == first and last - first >= mr:
            count = last - first
            store_i64(block + 8 * PIXELS, count)
        elif w >= first and w < last and last - first >= mr:
            w = min(w, last - mr)  # the last tile of the interior overlaps
        else:
            count, micro = 1, a[NARROW]
            kw0, kw1 = window(w * s_w - p_w, d_w, k_w, in_w)
        columns = k_w
        if kw1 - kw0 < k_w:
            columns = counted(w * s_w - p_w, d_w, k_w, in_w, p_w, a[END_W], a[PADDED])
        scale = types.float32(1.0) / types.float32(max(1, rows * columns))
        store_i64(block + 8 * COLUMNS, kw1 - kw0)
        call4(micro, block, x + (w * s_w - p_w + kw0 * d_w) * vector, y + w * vector, float_bits(scale))
        w += count


@driver(Pool)
def pool(target):
    vector = target.vector

    def pool(a, tid, nth):
        first, last = _interior(a)
        block = a[SCRATCH] + tid * a[STRIDE]
        store_i64(block + 8 * PLANE, a[XS_D] * a[D_D])
        store_i64(block + 8 * ROW, a[XS_H] * a[D_H])
        store_i64(block + 8 * COLUMN, a[D_W] * vector)
        store_i64(block + 8 * PIXEL, a[S_W] * vector)
        work = a[N] * a[BLOCKS] * a[OUT_D] * a[OUT_H]
        first_item, end = piece(a, work, nth, 0)
        while first_item < end:
            for k in range(first_item, end):
                n, c, d, h = row_of(k, a[BLOCKS], a[OUT_D], a[OUT_H])
                x, rows = _begin_row(a, block, n, c, d, h)
                y = a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + d * a[YS_D] + h * a[YS_H]
                _pool_row(a, block, x, y, rows, first, last, vector)
            first_item, end = piece(a, work, nth, end)

    return pool, STEP

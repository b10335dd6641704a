"""Max and average pooling in NCHW[c]c over 1, 2 or 3 spatial dims."""

from __future__ import annotations

from numba import njit, types

from graphc.backends.cpu.blocks.pool import POOL, POOL_ROW
from graphc.backends.cpu.codegen.intrinsics import STEP, call4, float_bits, store_i64
from graphc.backends.cpu.drivers.conv import window
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver

WIDE, NARROW, X, Y, N, BLOCKS = POOL["wide narrow x y n blocks"]
IN_D, IN_H, IN_W, OUT_D, OUT_H, OUT_W = POOL["in_d in_h in_w out_d out_h out_w"]
K_D, K_H, K_W, S_D, S_H, S_W, D_D, D_H, D_W = POOL["k_d k_h k_w s_d s_h s_w d_d d_h d_w"]
P_D, P_H, P_W, END_D, END_H, END_W, PADDED = POOL["p_d p_h p_w end_d end_h end_w padded"]
XS_N, XS_BLOCK, XS_D, XS_H = POOL["xs_n xs_block xs_d xs_h"]
YS_N, YS_BLOCK, YS_D, YS_H = POOL["ys_n ys_block ys_d ys_h"]
MR, RUN, SCRATCH, STRIDE = POOL["mr run scratch stride"]
PLANES, ROWS, COLUMNS, PLANE, ROW, COLUMN, PIXEL, PIXELS = POOL_ROW["planes rows columns plane row column pixel pixels"]


@njit(error_model="numpy")
def _counted(start, dilation, kernel, low, high):
    """Window positions that lie in [low, high): those that an average divides by."""
    count = 0
    for k in range(kernel):
        if low <= start + k * dilation < high:
            count += 1
    return count


@driver("pool")
def pool(target):
    vector = target.vector

    def pool(a, tid, nth):
        blocks, out_d, out_h, out_w, mr = a[BLOCKS], a[OUT_D], a[OUT_H], a[OUT_W], a[MR]
        k_w, s_w, d_w, p_w, in_w = a[K_W], a[S_W], a[D_W], a[P_W], a[IN_W]
        # the interior: columns whose windows lie inside the row
        first = min(out_w, (p_w + s_w - 1) // s_w)
        last = first
        if in_w - 1 - (k_w - 1) * d_w + p_w >= 0:
            last = min(out_w, max(first, (in_w - 1 - (k_w - 1) * d_w + p_w) // s_w + 1))
        block = a[SCRATCH] + tid * a[STRIDE]
        store_i64(block + 8 * PLANE, a[XS_D] * a[D_D])
        store_i64(block + 8 * ROW, a[XS_H] * a[D_H])
        store_i64(block + 8 * COLUMN, d_w * vector)
        store_i64(block + 8 * PIXEL, s_w * vector)
        work = a[N] * blocks * out_d * out_h
        first_item, end = piece(a, work, nth, 0)
        while first_item < end:
            for k in range(first_item, end):
                h = k % out_h
                rest = k // out_h
                d = rest % out_d
                rest = rest // out_d
                n = rest // blocks
                c = rest - n * blocks
                in_d = d * a[S_D] - a[P_D]
                in_h = h * a[S_H] - a[P_H]
                kd0, kd1 = window(in_d, a[D_D], a[K_D], a[IN_D])
                kh0, kh1 = window(in_h, a[D_H], a[K_H], a[IN_H])
                deep = _counted(
                    in_d, a[D_D], a[K_D], -a[P_D] if a[PADDED] else 0, a[IN_D] + (a[END_D] if a[PADDED] else 0)
                )
                high = _counted(
                    in_h, a[D_H], a[K_H], -a[P_H] if a[PADDED] else 0, a[IN_H] + (a[END_H] if a[PADDED] else 0)
                )
                xr = (
                    a[X]
                    + n * a[XS_N]
                    + c * a[XS_BLOCK]
                    + (in_d + kd0 * a[D_D]) * a[XS_D]
                    + (in_h + kh0 * a[D_H]) * a[XS_H]
                )
                yr = a[Y] + n * a[YS_N] + c * a[YS_BLOCK] + d * a[YS_D] + h * a[YS_H]
                store_i64(block + 8 * PLANES, kd1 - kd0)
                store_i64(block + 8 * ROWS, kh1 - kh0)
                w = 0
                while w < out_w:
                    count, micro = mr, a[WIDE]
                    if a[RUN] != 0 and w == first and last - first >= mr:
                        count = last - first
                        kw0, kw1 = 0, k_w
                        store_i64(block + 8 * PIXELS, count)
                    elif w >= first and w < last and last - first >= mr:
                        w = min(w, last - mr)  # the last tile of the interior overlaps
                        kw0, kw1 = 0, k_w
                    else:
                        count, micro = 1, a[NARROW]
                        kw0, kw1 = window(w * s_w - p_w, d_w, k_w, in_w)
                    wide = k_w
                    if kw1 - kw0 < k_w:
                        wide = _counted(
                            w * s_w - p_w, d_w, k_w, -p_w if a[PADDED] else 0, in_w + (a[END_W] if a[PADDED] else 0)
                        )
                    scale = types.float32(1.0) / types.float32(max(1, deep * high * wide))
                    x = xr + (w * s_w - p_w + kw0 * d_w) * vector
                    store_i64(block + 8 * COLUMNS, kw1 - kw0)
                    call4(micro, block, x, yr + w * vector, float_bits(scale))
                    w += count
            first_item, end = piece(a, work, nth, end)

    return pool, STEP

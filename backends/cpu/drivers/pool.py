"""Max and average pooling in NCHW[c]c over 1, 2 or 3 spatial dims."""

from __future__ import annotations

from numba import njit, types

from graphc.backends.cpu.codegen.intrinsics import STEP, call4, float_bits, store_i64
from graphc.backends.cpu.drivers.conv import window
from graphc.backends.cpu.drivers.work import piece
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.micro.pool import PIXELS

# fmt: off
(WIDE, NARROW, X, Y, N, XS_N, YS_N, BLOCKS, OUT_D, OUT_H, OUT_W, K_D, K_H, K_W, S_D, S_H, S_W, D_D, D_H, D_W, P_D, P_H, P_W,
 IN_D, IN_H, IN_W, XS_BLOCK, XS_D, XS_H, YS_BLOCK, YS_D, YS_H, PADDED, END_D, END_H, END_W, MR, SCRATCH, STRIDE, RUN) = range(40)
# fmt: on


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
    """PADDED: the average counts padding; END_*: padding at the end. NARROW makes one pixel, WIDE MR pixels of the interior
    or, where RUN is 1, all of them (`pool_run`)."""
    vector = target.vl * 4

    def pool(a, tid, nth):
        blocks, out_d, out_h, out_w, mr = a[BLOCKS], a[OUT_D], a[OUT_H], a[OUT_W], a[MR]
        k_w, s_w, d_w, p_w, in_w = a[K_W], a[S_W], a[D_W], a[P_W], a[IN_W]
        # the interior: columns whose windows lie inside the row
        first = min(out_w, (p_w + s_w - 1) // s_w)
        last = first
        if in_w - 1 - (k_w - 1) * d_w + p_w >= 0:
            last = min(out_w, max(first, (in_w - 1 - (k_w - 1) * d_w + p_w) // s_w + 1))
        block = a[SCRATCH] + tid * a[STRIDE]
        store_i64(block + 24, a[XS_D] * a[D_D])
        store_i64(block + 32, a[XS_H] * a[D_H])
        store_i64(block + 40, d_w * vector)
        store_i64(block + 48, s_w * vector)
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
                store_i64(block, kd1 - kd0)
                store_i64(block + 8, kh1 - kh0)
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
                    store_i64(block + 16, kw1 - kw0)
                    call4(micro, block, x, yr + w * vector, float_bits(scale))
                    w += count
            first_item, end = piece(a, work, nth, end)

    return pool, STEP

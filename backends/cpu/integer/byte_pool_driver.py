"""The largest bytes of windows: loops over pixels. What is behind the border does not count."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, block_address, call5
from graphc.backends.cpu.conv.window_njit import window
from graphc.backends.cpu.executor.work_njit import piece
from graphc.backends.cpu.integer.byte_conv_block import BYTE_POOL, BytePool
from graphc.backends.cpu.kernel import driver

MICRO, X, Y, N, IN_H, IN_W, OUT_H, OUT_W = BYTE_POOL["micro x y n in_h in_w out_h out_w"]
K_H, K_W, S_H, S_W, D_H, D_W, P_H, P_W = BYTE_POOL["k_h k_w s_h s_w d_h d_w p_h p_w"]
X_N, X_ROW, X_PIXEL, Y_N, Y_ROW, Y_PIXEL = BYTE_POOL["x_n x_row x_pixel y_n y_row y_pixel"]


@driver(BytePool)
def byte_pool(target):
    """A piece of work is a row of the result."""

    def byte_pool(a, tid, nth):
        out_h, out_w = a[OUT_H], a[OUT_W]
        block = block_address(a)
        first, end = piece(a, a[N] * out_h, nth, 0)
        while first < end:
            for k in range(first, end):
                n = k // out_h
                h = k - n * out_h
                from_h = h * a[S_H] - a[P_H]
                h0, h1 = window(from_h, a[D_H], a[K_H], a[IN_H])
                line = a[X] + n * a[X_N] + (from_h + h0 * a[D_H]) * a[X_ROW]
                y = a[Y] + n * a[Y_N] + h * a[Y_ROW]
                for w in range(out_w):
                    from_w = w * a[S_W] - a[P_W]
                    w0, w1 = window(from_w, a[D_W], a[K_W], a[IN_W])
                    at = line + (from_w + w0 * a[D_W]) * a[X_PIXEL]
                    call5(a[MICRO], block, at, y + w * a[Y_PIXEL], h1 - h0, w1 - w0)
            first, end = piece(a, a[N] * out_h, nth, end)

    return byte_pool, STEP

"""Moving data between layouts, and clearing halos."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, call5, copy_bytes, fill_bytes
from graphc.backends.cpu.kernel import driver


@driver("clear_halo")
def clear_halo(target):
    """Zero the left and right columns of every row. Block: address, n, n stride, channel blocks, their stride, rows,
    row bytes, left bytes, right bytes."""

    def clear_halo(a, tid, nth):
        n, n_stride, blocks, block_stride, rows, row, left, right = a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]
        work = n * blocks
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            base = a[0] + (k // blocks) * n_stride + (k % blocks) * block_stride
            for r in range(rows):
                if left:
                    fill_bytes(base + r * row, left, 0)
                if right:
                    fill_bytes(base + (r + 1) * row - right, right, 0)

    return clear_halo, STEP


@driver("to_blocked")
def to_blocked(target):
    """Dense [n, C, rows, w] -> blocked. Block: x, y, n, C, c, rows, w, y strides of n / channel block / row, micro.

    The micro-kernel transposes `w` pixels of one row from `channels` planes.
    """

    def to_blocked(a, tid, nth):
        x, y, n, channels, c, rows, w = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        ys_n, ys_c, ys_row = a[7], a[8], a[9]
        blocks = (channels + c - 1) // c
        plane = rows * w * 4
        work = n * blocks * rows
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            b = k // rows
            r = k - b * rows
            i = b // blocks
            cb = b - i * blocks
            source = x + (i * channels + cb * c) * plane + r * w * 4
            to = y + i * ys_n + cb * ys_c + r * ys_row
            if c == 1:
                copy_bytes(to, source, w * 4)
            else:
                if channels - cb * c < c:
                    fill_bytes(to, w * c * 4, 0)
                call5(a[10], source, to, w, min(c, channels - cb * c), plane)

    return to_blocked, STEP


@driver("to_dense")
def to_dense(target):
    """Blocked -> dense [n, C, rows, w]. Block: x, y, n, C, c, rows, w, x strides of n / channel block / row, micro."""

    def to_dense(a, tid, nth):
        x, y, n, channels, c, rows, w = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        xs_n, xs_c, xs_row = a[7], a[8], a[9]
        blocks = (channels + c - 1) // c
        plane = rows * w * 4
        work = n * blocks * rows
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            b = k // rows
            r = k - b * rows
            i = b // blocks
            cb = b - i * blocks
            source = x + i * xs_n + cb * xs_c + r * xs_row
            to = y + (i * channels + cb * c) * plane + r * w * 4
            call5(a[10], source, to, w, min(c, channels - cb * c), plane)

    return to_dense, STEP

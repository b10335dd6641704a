"""Moving data between layouts, and clearing halos."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.blocked.reorder_block import CLEAR_HALO, REORDER, ClearHalo, ToBlocked, ToDense
from graphc.backends.cpu.codegen.intrinsics import STEP, call5, copy_bytes, fill_bytes
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import FLOAT_BYTES

X, Y, N, CHANNELS, C, ROWS, WIDTH, MICRO = REORDER["x y n channels c rows width micro"]
N_STRIDE, BLOCK_STRIDE, ROW_STRIDE = REORDER["n_stride block_stride row_stride"]


@driver(ClearHalo)
def clear_halo(target):
    """Zero the left and right columns of every row."""
    Y, N, N_STRIDE, BLOCKS, BLOCK_STRIDE = CLEAR_HALO["y n n_stride blocks block_stride"]
    ROWS, ROW, LEFT, RIGHT = CLEAR_HALO["rows row left right"]

    def clear_halo(a, tid, nth):
        blocks, row, left, right = a[BLOCKS], a[ROW], a[LEFT], a[RIGHT]
        work = a[N] * blocks
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            base = a[Y] + (k // blocks) * a[N_STRIDE] + (k % blocks) * a[BLOCK_STRIDE]
            for r in range(a[ROWS]):
                if left:
                    fill_bytes(base + r * row, left, 0)
                if right:
                    fill_bytes(base + (r + 1) * row - right, right, 0)

    return clear_halo, STEP


@njit(error_model="numpy")
def _rows(a):
    """How many rows of channel blocks there are."""
    return a[N] * ((a[CHANNELS] + a[C] - 1) // a[C]) * a[ROWS]


@njit(error_model="numpy")
def _row(a, k):
    """Of row k: bytes to it on the dense side and on the blocked one, and its channels."""
    blocks, plane = (a[CHANNELS] + a[C] - 1) // a[C], a[ROWS] * a[WIDTH] * FLOAT_BYTES
    rest = k // a[ROWS]
    row = k - rest * a[ROWS]
    n = rest // blocks
    block = rest - n * blocks
    dense = (n * a[CHANNELS] + block * a[C]) * plane + row * a[WIDTH] * FLOAT_BYTES
    blocked = n * a[N_STRIDE] + block * a[BLOCK_STRIDE] + row * a[ROW_STRIDE]
    return dense, blocked, min(a[C], a[CHANNELS] - block * a[C])


@driver(ToBlocked)
def to_blocked(target):
    """Dense [n, channels, rows, width] -> blocked. The micro-kernel interleaves the pixels of one row from C planes."""

    def to_blocked(a, tid, nth):
        c, width, work = a[C], a[WIDTH], _rows(a)
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            dense, blocked, channels = _row(a, k)
            source, to = a[X] + dense, a[Y] + blocked
            if c == 1:
                copy_bytes(to, source, width * FLOAT_BYTES)
                continue
            if channels < c:
                fill_bytes(to, width * c * FLOAT_BYTES, 0)
            call5(a[MICRO], source, to, width, channels, a[ROWS] * width * FLOAT_BYTES)

    return to_blocked, STEP


@driver(ToDense)
def to_dense(target):
    """Blocked -> dense [n, channels, rows, width]. The micro-kernel separates the pixels of one row into C planes."""

    def to_dense(a, tid, nth):
        width, work = a[WIDTH], _rows(a)
        for k in range(work * tid // nth, work * (tid + 1) // nth):
            dense, blocked, channels = _row(a, k)
            call5(a[MICRO], a[X] + blocked, a[Y] + dense, width, channels, a[ROWS] * width * FLOAT_BYTES)

    return to_dense, STEP

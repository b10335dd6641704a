"""The k first elements of each row, in order."""

from __future__ import annotations

from numba import njit

from backends.cpu.intrinsics import (
    STEP,
    call4,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
)
from backends.cpu.toolchain import driver

X, VALUES, INDICES, KEYS, MICRO, ITEM, OUTER, N, INNER, K, SCRATCH, SCRATCH_STRIDE = range(12)


@njit(error_model="numpy")
def _copy_element(to, source, item):
    if item == 4:
        store_u32(to, load_u32(source))
    elif item == 8:
        store_i64(to, load_i64(source))
    elif item == 1:
        store_u8(to, load_u8(source))
    else:
        store_u16(to, load_u16(source))


@njit(error_model="numpy")
def _after(key, index, other, other_index):
    """Does (key, index) come after the other? Large keys first, of equal keys the lower index."""
    return key < other or (key == other and index > other_index)


@njit(error_model="numpy")
def _sift_down(heap, at, count):
    """Restore the heap whose root comes last of all."""
    key, index = load_i64(heap + 16 * at), load_i64(heap + 16 * at + 8)
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        c = heap + 16 * child
        if child + 1 < count and _after(load_i64(c + 16), load_i64(c + 24), load_i64(c), load_i64(c + 8)):
            child += 1
            c += 16
        if _after(key, index, load_i64(c), load_i64(c + 8)):
            break
        store_i64(heap + 16 * at, load_i64(c))
        store_i64(heap + 16 * at + 8, load_i64(c + 8))
        at = child
    store_i64(heap + 16 * at, key)
    store_i64(heap + 16 * at + 8, index)


@njit(error_model="numpy")
def _select(heap, keys, n, k):
    """The k first of n keys in order, as (key, index) pairs at `heap`."""
    for i in range(k):
        store_i64(heap + 16 * i, load_i64(keys + 8 * i))
        store_i64(heap + 16 * i + 8, i)
    for i in range(k // 2 - 1, -1, -1):
        _sift_down(heap, i, k)
    for i in range(k, n):
        key = load_i64(keys + 8 * i)
        if key > load_i64(heap):  # an equal key has a higher index: it comes after
            store_i64(heap, key)
            store_i64(heap + 8, i)
            _sift_down(heap, 0, k)
    for count in range(k - 1, 0, -1):  # the last of those left goes behind them
        key, index = load_i64(heap), load_i64(heap + 8)
        store_i64(heap, load_i64(heap + 16 * count))
        store_i64(heap + 8, load_i64(heap + 16 * count + 8))
        _sift_down(heap, 0, count)
        store_i64(heap + 16 * count, key)
        store_i64(heap + 16 * count + 8, index)


@driver("top_k")
def top_k(target):
    """Values and int64 positions of the first K along the middle of [OUTER, N, INNER] dense elements."""

    def top_k(a, tid, nth):
        n, inner, k, item = a[N], a[INNER], a[K], a[ITEM]
        keys = a[KEYS] + tid * a[SCRATCH_STRIDE]
        heap = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        rows = a[OUTER] * inner
        for row in range(rows * tid // nth, rows * (tid + 1) // nth):
            outer = row // inner
            lane = row - outer * inner
            x = a[X] + (outer * n * inner + lane) * item
            call4(a[MICRO], n, x, inner * item, keys)
            _select(heap, keys, n, k)
            to = outer * k * inner + lane
            for i in range(k):
                index = load_i64(heap + 16 * i + 8)
                _copy_element(a[VALUES] + (to + i * inner) * item, x + index * inner * item, item)
                store_i64(a[INDICES] + (to + i * inner) * 8, index)

    return top_k, STEP

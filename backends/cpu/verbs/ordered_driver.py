"""The k first elements of each row, in order."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, as_block, call4, store_i64
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES, copy_element
from graphc.backends.cpu.verbs.ordered_block import TOP_K, TopK

X, VALUES, INDICES, MICRO, ITEM, OUTER, N, INNER, K = TOP_K["x values indices micro item outer n inner k"]
KEYS, HEAP, STRIDE = TOP_K["keys heap stride"]


@njit(error_model="numpy")
def _after(key, index, other, other_index):
    """Does (key, index) come after the other? Large keys first, of equal keys the lower index."""
    return key < other or (key == other and index > other_index)


@njit(error_model="numpy")
def _sift_down(heap, at, count):
    """Restore the heap of (key, index) pairs whose root comes last of all."""
    key, index = heap[2 * at], heap[2 * at + 1]
    while True:
        c = 2 * (2 * at + 1)
        if c >= 2 * count:
            break
        if c + 2 < 2 * count and _after(heap[c + 2], heap[c + 3], heap[c], heap[c + 1]):
            c += 2
        if _after(key, index, heap[c], heap[c + 1]):
            break
        heap[2 * at] = heap[c]
        heap[2 * at + 1] = heap[c + 1]
        at = c // 2
    heap[2 * at] = key
    heap[2 * at + 1] = index


@njit(error_model="numpy")
def _select(heap, keys, n, k):
    """The k first of n keys in order, as (key, index) pairs in `heap`."""
    for i in range(k):
        heap[2 * i] = keys[i]
        heap[2 * i + 1] = i
    for i in range(k // 2 - 1, -1, -1):
        _sift_down(heap, i, k)
    for i in range(k, n):
        key = keys[i]
        if key > heap[0]:  # an equal key has a higher index: it comes after
            heap[0] = key
            heap[1] = i
            _sift_down(heap, 0, k)
    for count in range(k - 1, 0, -1):  # the last of those left goes behind them
        key, index = heap[0], heap[1]
        heap[0] = heap[2 * count]
        heap[1] = heap[2 * count + 1]
        _sift_down(heap, 0, count)
        heap[2 * count] = key
        heap[2 * count + 1] = index


@driver(TopK)
def top_k(target):
    """Values and int64 positions of the first K along the middle of [OUTER, N, INNER] dense elements."""

    def top_k(a, tid, nth):
        n, inner, k, item = a[N], a[INNER], a[K], a[ITEM]
        keys = a[KEYS] + tid * a[STRIDE]
        heap = as_block(a[HEAP] + tid * a[STRIDE])
        rows = a[OUTER] * inner
        for row in range(rows * tid // nth, rows * (tid + 1) // nth):
            outer = row // inner
            lane = row - outer * inner
            x = a[X] + (outer * n * inner + lane) * item
            call4(a[MICRO], n, x, inner * item, keys)
            _select(heap, as_block(keys), n, k)
            to = outer * k * inner + lane
            for i in range(k):
                index = heap[2 * i + 1]
                copy_element(a[VALUES] + (to + i * inner) * item, x + index * inner * item, item)
                store_i64(a[INDICES] + (to + i * inner) * INT64_BYTES, index)

    return top_k, STEP

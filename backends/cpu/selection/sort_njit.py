"""Sorting int64 numbers by address."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import as_block, fill_bytes
from graphc.backends.cpu.selection.sort_block import DIGIT_BITS, DIGITS, DIGITS_BYTES, KEY_BITS

SIGN = -(2**63)


@njit(error_model="numpy")
def radix_sort(keys, places, spare_keys, spare_places, digits, n):
    """Sort n keys, ascending and stable, and their places with them if there are any (0: none). digits: DIGITS_BYTES of memory.
    Returns where keys and places are now: there or in the spare memory."""
    counts = as_block(digits)
    fill_bytes(digits, DIGITS_BYTES, 0)
    now, other = as_block(keys), as_block(spare_keys)
    now_places, other_places = as_block(places), as_block(spare_places)
    has_places = places != 0
    for i in range(n):
        key = now[i] ^ SIGN
        for d in range(KEY_BITS // DIGIT_BITS):
            counts[d * DIGITS + ((key >> (d * DIGIT_BITS)) & (DIGITS - 1))] += 1
    swapped = False
    for d in range(KEY_BITS // DIGIT_BITS):
        shift, base = d * DIGIT_BITS, d * DIGITS
        if n == 0 or counts[base + (((now[0] ^ SIGN) >> shift) & (DIGITS - 1))] == n:  # all have this digit
            continue
        start = 0
        for digit in range(base, base + DIGITS):
            count = counts[digit]
            counts[digit] = start
            start += count
        for i in range(n):
            key = now[i]
            digit = base + (((key ^ SIGN) >> shift) & (DIGITS - 1))
            to = counts[digit]
            counts[digit] = to + 1
            other[to] = key
            if has_places:
                other_places[to] = now_places[i]
        now, other = other, now
        now_places, other_places = other_places, now_places
        swapped = not swapped
    if swapped:
        return spare_keys, spare_places
    return keys, places


@njit(error_model="numpy")
def sift_down(heap, at, count):
    """Restore the heap, largest first, below entry `at`."""
    key = heap[at]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key


@njit(error_model="numpy")
def heapify(heap, count):
    for i in range(count // 2 - 1, -1, -1):
        sift_down(heap, i, count)


@njit(error_model="numpy")
def pop(heap, count):
    """Take the largest of `count`; those left are a heap of one less."""
    key = heap[0]
    heap[0] = heap[count - 1]
    sift_down(heap, 0, count - 1)
    return key

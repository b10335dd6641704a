"""The distinct elements or rows of a tensor: sort, cut where neighbours differ, and number the groups."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import STEP, as_block, call4, fill_bytes, store_i64
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.selection.sort_njit import radix_sort
from graphc.backends.cpu.selection.unique_block import UNIQUE, UNIQUE_ROWS, Unique, UniqueRows
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES, copy_block, copy_element

NAN = 2**63 - 1  # as a key of `sort_keys`


@njit(error_model="numpy")
def _cut(keys, places, n, first, inverse, counts):
    """Groups of equal keys in order: the first position of each, which group each element is of, how many it has. Returns how
    many groups there are."""
    groups = 0
    for i in range(n):
        key, place = keys[i], places[i]
        if i == 0 or key != keys[i - 1]:
            first[groups] = place
            counts[groups] = 0
            groups += 1
        inverse[place] = groups - 1
        counts[groups - 1] += 1
    return groups


@njit(error_model="numpy")
def _by_first_position(n, groups, first, inverse, counts, group_at, number_of, spare):
    """Number the groups anew, in the order of their first positions. The last three: n int64 each."""
    fill_bytes(group_at, INT64_BYTES * n, 0)
    at, number, held = as_block(group_at), as_block(number_of), as_block(spare)
    for g in range(groups):
        at[first[g]] = g + 1
        held[g] = counts[g]
    next_group = 0
    for i in range(n):
        if at[i]:
            g = at[i] - 1
            number[g] = next_group
            first[next_group] = i
            counts[next_group] = held[g]
            next_group += 1
    for i in range(n):
        inverse[i] = number[inverse[i]]


@driver(Unique)
def unique(target):
    """VALUES, FIRST, INVERSE, COUNTS and their TOTAL, as ONNX Unique has them."""
    X, ITEM, N, VALUES, FIRST, INVERSE, COUNTS = UNIQUE["x item n values first inverse counts"]
    TOTAL, MICRO, ORDERED = UNIQUE["total micro ordered"]
    KEYS, PLACES, SPARE_KEYS, SPARE_PLACES, DIGITS = UNIQUE["keys places spare_keys spare_places digits"]

    def unique(a, tid, nth):
        if tid != 0:
            return
        n, x, item = a[N], a[X], a[ITEM]
        first, inverse, counts = as_block(a[FIRST]), as_block(a[INVERSE]), as_block(a[COUNTS])
        call4(a[MICRO], n, x, item, a[KEYS])
        places = as_block(a[PLACES])
        for i in range(n):
            places[i] = i
        keys, order = radix_sort(a[KEYS], a[PLACES], a[SPARE_KEYS], a[SPARE_PLACES], a[DIGITS], n)
        groups = _cut(as_block(keys), as_block(order), n, first, inverse, counts)
        if not a[ORDERED]:
            _by_first_position(n, groups, first, inverse, counts, a[KEYS], a[PLACES], a[SPARE_KEYS])
        for g in range(groups):
            copy_element(a[VALUES] + item * g, x + item * first[g], item)
        store_i64(a[TOTAL], groups)

    return unique, STEP


@njit(error_model="numpy")
def _compared(keys, columns, i, j):
    """Is row i before row j (negative), equal (0), or behind it? keys: of [n, columns]."""
    i *= columns
    j *= columns
    for c in range(columns):
        left, right = keys[i + c], keys[j + c]
        if left != right:
            return -1 if left < right else 1
    return 0


@njit(error_model="numpy")
def _has_nan(keys, columns, i):
    for c in range(i * columns, (i + 1) * columns):  # noqa: SIM110  (Numba has no generator within any())
        if keys[c] == NAN:
            return True
    return False


@njit(error_model="numpy")
def _merge_sort(keys, columns, n, places, spare):
    """Sort n places by their rows, stable. Are they in the spare memory then?"""
    now, other, width, swapped = as_block(places), as_block(spare), 1, False
    while width < n:
        for start in range(0, n, 2 * width):
            i, middle = start, min(start + width, n)
            j, end = middle, min(start + 2 * width, n)
            for to in range(start, end):
                if j >= end or (i < middle and _compared(keys, columns, now[i], now[j]) <= 0):
                    other[to] = now[i]
                    i += 1
                else:
                    other[to] = now[j]
                    j += 1
        now, other, swapped = other, now, not swapped
        width *= 2
    return swapped


@driver(UniqueRows)
def unique_rows(target):
    """VALUES, FIRST, INVERSE, COUNTS and their TOTAL of rows, which are compared from their first element on."""
    X, ITEM, FLOATS, OUTER, N, INNER, VALUES = UNIQUE_ROWS["x item floats outer n inner values"]
    FIRST, INVERSE, COUNTS, TOTAL, MICRO, ORDERED = UNIQUE_ROWS["first inverse counts total micro ordered"]
    KEYS, PLACES, SPARE, AT, NUMBER, HELD = UNIQUE_ROWS["keys places spare_places at number held"]

    def unique_rows(a, tid, nth):
        if tid != 0:
            return
        n, x, item, outer, inner = a[N], a[X], a[ITEM], a[OUTER], a[INNER]
        first, inverse, counts = as_block(a[FIRST]), as_block(a[INVERSE]), as_block(a[COUNTS])
        columns, keys, places = outer * inner, as_block(a[KEYS]), as_block(a[PLACES])
        for c in range(columns):
            o = c // inner
            call4(a[MICRO], n, x + (o * n * inner + c - o * inner) * item, inner * item, a[PLACES])
            for i in range(n):
                keys[i * columns + c] = places[i]
        for i in range(n):
            places[i] = i
        order = as_block(a[SPARE]) if _merge_sort(keys, columns, n, a[PLACES], a[SPARE]) else places
        groups = 0
        for i in range(n):
            differs = i == 0 or _compared(keys, columns, order[i - 1], order[i]) != 0
            if differs or (a[FLOATS] and _has_nan(keys, columns, order[i])):  # NaN is equal to nothing
                first[groups], counts[groups] = order[i], 0
                groups += 1
            inverse[order[i]] = groups - 1
            counts[groups - 1] += 1
        if not a[ORDERED]:
            _by_first_position(n, groups, first, inverse, counts, a[AT], a[NUMBER], a[HELD])
        block = inner * item
        for o in range(outer):
            for g in range(groups):
                copy_block(a[VALUES] + (o * groups + g) * block, x + (o * n + first[g]) * block, block)
        store_i64(a[TOTAL], groups)

    return unique_rows, STEP

"""What both drivers of attention write into the records of a tile's rows."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.attention.attention_block import ANY_ATTENTION, SOFTMAX_TILE, TILE_ROW
from graphc.backends.cpu.codegen.intrinsics import load_i64, store_i64

KEYS, LENGTHS, LENGTHS_STRIDE = ANY_ATTENTION["keys lengths lengths_stride"]
SCALE, SOFTCAP, WINDOWED, FIRST_SEEN, END_SEEN = ANY_ATTENTION["scale softcap windowed first_seen end_seen"]
MICRO_KEYS, MICRO_SCALE, MICRO_SOFTCAP, MICRO_ROWS = SOFTMAX_TILE["keys scale softcap rows"]
ROW_MASK, ROW_FIRST, ROW_SEEN, ROW_Y = TILE_ROW["mask first seen y"]
ROW_BYTES = 8 * TILE_ROW.size


@njit(error_model="numpy")
def keys_of(a, batch):
    """How many of the keys there are."""
    if a[LENGTHS] == 0:
        return a[KEYS]
    return min(max(load_i64(a[LENGTHS] + batch * a[LENGTHS_STRIDE]), 0), a[KEYS])


@njit(error_model="numpy")
def first_of(a, keys, query):
    """The first of the `keys` that a query sees."""
    return min(max(query + a[FIRST_SEEN] + keys - a[KEYS], 0), keys)


@njit(error_model="numpy")
def end_of(a, keys, query):
    """The end of those that it sees."""
    return min(max(query + a[END_SEEN] + keys - a[KEYS], first_of(a, keys, query)), keys)


@njit(error_model="numpy")
def range_of(a, keys, first, last):
    """[start, end) of the keys that queries `first` to `last` see, at least one."""
    if a[WINDOWED] == 0:
        return 0, a[KEYS]
    end = max(end_of(a, keys, last), 1)
    return min(first_of(a, keys, first), end - 1), end


@njit(error_model="numpy")
def start_softmax(a, block, rows):
    store_i64(block + 8 * MICRO_SCALE, a[SCALE])
    store_i64(block + 8 * MICRO_SOFTCAP, a[SOFTCAP])
    store_i64(block + 8 * MICRO_ROWS, rows)


@njit(error_model="numpy")
def fill_row(a, record, keys, query, start, mask, y):
    """start: the key of the tile's first score; mask: address at that key."""
    first = first_of(a, keys, query)
    store_i64(record + 8 * ROW_MASK, mask)
    store_i64(record + 8 * ROW_FIRST, first - start)
    store_i64(record + 8 * ROW_SEEN, end_of(a, keys, query) - first)
    store_i64(record + 8 * ROW_Y, y)

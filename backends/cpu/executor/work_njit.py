"""How a step's work is cut between threads: in turn, so that a thread which the system puts aside holds up nobody.

Every argument block has a counter in the cache line before it (TURN bytes from its start). Threads take pieces by adding
to it; the executor sets it back to zero when the step is done. The first pieces are large, for the caches' sake, and
the last are single units, so that all threads end at the same time (guided self-scheduling, Polychronopoulos and Kuck,
1987). Which thread makes a piece does not change its bits.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import atomic_add, block_address
from graphc.backends.cpu.sizes import CACHE_LINE

TURN = -CACHE_LINE


@njit(error_model="numpy")
def piece(a, work, nth, done):
    """The next [first, end) of range(work); empty when nothing is left. `done`: 0 at first, then the last piece's end."""
    if nth == 1:
        return done, work
    turn = atomic_add(block_address(a) + TURN, 1)
    left = work
    while left > 2 * nth and turn >= nth:  # each round of nth pieces takes half of what is left
        left -= left // 2
        turn -= nth
    if left > 2 * nth:
        half = left // 2
        first = work - left + half * turn // nth
        return first, work - left + half * (turn + 1) // nth
    first = min(work - left + turn, work)
    return first, min(first + 1, work)


@njit(error_model="numpy")
def row_of(k, blocks, depth, height):
    """(n, block, d, h) of row k, where rows are [n][blocks][depth][height]."""
    rest = k // height
    h = k - rest * height
    plane = rest // depth
    d = rest - plane * depth
    n = plane // blocks
    return n, plane - n * blocks, d, h


@njit(error_model="numpy")
def offset_of(a, index, dims, strides, rank):
    """Bytes to number `index` of nested loops: a[dims] … are their `rank` extents, innermost first, a[strides] … their strides."""
    offset = 0
    for d in range(rank):
        extent = a[dims + d]
        if extent > 1:
            up = index // extent
            offset += (index - up * extent) * a[strides + d]
            index = up
    return offset


@njit(error_model="numpy")
def product_of(a, dims, rank):
    """How many runs nested loops have."""
    count = 1
    for d in range(rank):
        count *= a[dims + d]
    return count

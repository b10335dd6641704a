"""How a step's work is cut between threads: in turn, so that a thread which the system puts aside holds up nobody.

Every argument block has a counter in the cache line before it (TURN bytes from its start). Threads take pieces by adding
to it; the executor sets it back to zero once all have passed the barrier behind the step. Which thread makes a piece does
not change its bits.
"""

from __future__ import annotations

from numba import njit

from backends.cpu.intrinsics import atomic_add, block_address

TURN = -64
PIECES = 8  # a thread, on average: few enough to be cheap, enough to level out


@njit(error_model="numpy")
def piece(a, work, nth, done):
    """The next [first, end) of range(work); empty when nothing is left. `done`: 0 at first, then the last piece's end."""
    if nth == 1:
        return done, work
    size = max(1, work // (PIECES * nth))
    first = atomic_add(block_address(a) + TURN, 1) * size
    return min(first, work), min(first + size, work)

"""cp.async: what is copied arrives only at the wait, so that a missing wait shows."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import copy_bytes, fill_bytes
from graphc.backends.cpu.codegen.intrinsics import load_i64 as load
from graphc.backends.cpu.codegen.intrinsics import store_i64 as store
from graphc.backends.cuda.emulator.checker_njit import check
from graphc.backends.cuda.emulator.faults import TOO_MANY_COPIES
from graphc.backends.cuda.emulator.fibers_njit import fail
from graphc.backends.cuda.emulator.operations import READ, WRITE
from graphc.backends.cuda.emulator.records import B_CHECK, COPY, F_BLOCK, F_COPIES, F_GROUP, F_QUEUE, QUEUE, WORD

TO, GROUP, DATA = 0, WORD, 2 * WORD  # of an entry of the queue


@njit(error_model="numpy")
def copy_async(fiber, to, source, size, given, line):
    """`given` bytes of the source, then zeros up to `size`."""
    if load(load(fiber + F_BLOCK) + B_CHECK) != 0:
        check(fiber, source, given, size, READ, line)
        check(fiber, to, size, size, WRITE, line)
    copies = load(fiber + F_COPIES)
    if copies == QUEUE:
        fail(fiber, TOO_MANY_COPIES, line, 0, 0)
    entry = fiber + F_QUEUE + COPY * copies
    store(entry + TO, to)
    store(entry + GROUP, load(fiber + F_GROUP) << 8 | size)
    fill_bytes(entry + DATA, 16, 0)
    copy_bytes(entry + DATA, source, given)
    store(fiber + F_COPIES, copies + 1)


@njit(error_model="numpy")
def copy_commit(fiber):
    store(fiber + F_GROUP, load(fiber + F_GROUP) + 1)


@njit(error_model="numpy")
def copy_wait(fiber, pending, line):
    """Deliver all groups but the newest `pending`; below 0: everything, committed or not."""
    block = load(fiber + F_BLOCK)
    end = load(fiber + F_GROUP) - pending
    kept = 0
    for k in range(load(fiber + F_COPIES)):
        entry = fiber + F_QUEUE + COPY * k
        to, size = load(entry + TO), load(entry + GROUP) & 0xFF
        if pending < 0 or load(entry + GROUP) >> 8 < end:
            if load(block + B_CHECK) != 0:
                check(fiber, to, size, size, WRITE, line)
            copy_bytes(to, entry + DATA, size)
        else:
            if kept != k:
                copy_bytes(fiber + F_QUEUE + COPY * kept, entry, COPY)
            kept += 1
    store(fiber + F_COPIES, kept)

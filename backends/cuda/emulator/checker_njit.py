"""The checker: shadow memory tells of each access whether it is ordered with those before it.

A cell has the stamps of the last write and of two readers since. One belongs to a grain of shared memory (the kernel's smallest
access, at most 4 bytes), or to an item of a range of global memory. A stamp is

    block: 24 bits | barriers passed: 16 | __syncwarps passed: 12 | atomic: 1 | thread + 1: 11

Threads of one warp are not taken to run in lockstep.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import load_i64 as load
from graphc.backends.cpu.codegen.intrinsics import store_i64 as store
from graphc.backends.cuda.emulator.faults import (
    MISALIGNED,
    NOT_WRITTEN,
    OUT_OF_BOUNDS,
    READ_AFTER_WRITE,
    READ_ONLY,
    WRITE_AFTER_READ,
    WRITE_AFTER_WRITE,
)
from graphc.backends.cuda.emulator.fibers_njit import fail
from graphc.backends.cuda.emulator.operations import ATOMIC, READ, VOLATILE
from graphc.backends.cuda.emulator.records import (
    B_GRAIN,
    B_RANGE_COUNT,
    B_RANGES,
    B_SHADOW,
    B_SHARED,
    B_SHARED_BYTES,
    B_STACK_BYTES,
    B_STACKS,
    B_STAMP,
    B_THREADS,
    C_READ,
    C_READ_TOO,
    C_SIZE,
    C_WRITE,
    F_BLOCK,
    F_THREAD,
    F_WARP,
    R_END,
    R_FIRST,
    R_ITEM,
    R_SHADOW,
    R_SIZE,
    R_WRITABLE,
    W_EPOCH,
    WARP,
    WORD,
)

THREAD = 0x7FF
ATOMIC_BIT, WARP_BITS, BARRIER_BITS, BLOCK_BITS = 11, 12, 24, 40


@njit(error_model="numpy")
def stamp_of(fiber, block, atomic):
    passed = load(block + W_EPOCH + WORD * load(fiber + F_WARP)) & 0xFFF
    return load(block + B_STAMP) | passed << WARP_BITS | atomic << ATOMIC_BIT | load(fiber + F_THREAD) + 1


@njit(error_model="numpy")
def unordered(new, old, shared):
    """Can the two accesses happen in either order? shared: of shared memory, which other blocks do not reach."""
    if old == 0 or new & old & 1 << ATOMIC_BIT != 0:
        return False
    differs = new ^ old
    if differs >> BLOCK_BITS != 0:
        return not shared
    thread, other = (new & THREAD) - 1, (old & THREAD) - 1
    if thread == other or differs >> BARRIER_BITS & 0xFFFF != 0:
        return False
    return not (thread // WARP == other // WARP and differs >> WARP_BITS & 0xFFF != 0)


@njit(error_model="numpy")
def look_at_cell(fiber, cell, stamp, kind, shared, line, address):
    if kind == READ and load(cell + C_READ) == stamp:  # read before by this thread, nothing since
        return
    written = load(cell + C_WRITE)
    if shared and kind == READ and (written == 0 or (stamp ^ written) >> BLOCK_BITS != 0):
        fail(fiber, NOT_WRITTEN, line, address, 0)
    if unordered(stamp, written, shared):
        fail(fiber, READ_AFTER_WRITE if kind == READ else WRITE_AFTER_WRITE, line, address, (written & THREAD) - 1)
    reader = load(cell + C_READ)
    if kind == READ:
        if reader == 0 or (reader ^ stamp) & THREAD == 0 or (shared and not unordered(stamp, reader, shared)):
            store(cell + C_READ, stamp)
        else:
            store(cell + C_READ_TOO, stamp)
        return
    if unordered(stamp, reader, shared):
        fail(fiber, WRITE_AFTER_READ, line, address, (reader & THREAD) - 1)
    reader = load(cell + C_READ_TOO)
    if unordered(stamp, reader, shared):
        fail(fiber, WRITE_AFTER_READ, line, address, (reader & THREAD) - 1)
    store(cell + C_WRITE, stamp)
    store(cell + C_READ, 0)
    store(cell + C_READ_TOO, 0)


@njit(error_model="numpy")
def check(fiber, address, size, alignment, kind, line):
    """An access of `size` bytes."""
    if size == 0:
        return
    block = load(fiber + F_BLOCK)
    if address & alignment - 1 != 0:
        fail(fiber, MISALIGNED, line, address, size)
    stamp = stamp_of(fiber, block, 1 if kind >= ATOMIC else 0)
    at = address - load(block + B_SHARED)
    if 0 <= at < load(block + B_SHARED_BYTES):
        if at + size > load(block + B_SHARED_BYTES):
            fail(fiber, OUT_OF_BOUNDS, line, address + size - 1, size)
        grain = load(block + B_GRAIN)
        cells = load(block + B_SHADOW)
        for i in range(at >> grain, (at + size - 1 >> grain) + 1):
            look_at_cell(fiber, cells + C_SIZE * i, stamp, kind, True, line, address)
        return
    at = address - load(block + B_STACKS)
    if 0 <= at < load(block + B_THREADS) * load(block + B_STACK_BYTES):  # a local variable
        return
    ranges = load(block + B_RANGES)
    for i in range(load(block + B_RANGE_COUNT)):
        one = ranges + R_SIZE * i
        first, end = load(one + R_FIRST), load(one + R_END)
        if first <= address < end:
            if address + size > end:
                fail(fiber, OUT_OF_BOUNDS, line, address + size - 1, size)
            if load(one + R_WRITABLE) == 0:
                if kind != READ and kind != VOLATILE:
                    fail(fiber, READ_ONLY, line, address, size)
                return  # where nobody writes there are no races
            item, cells = load(one + R_ITEM), load(one + R_SHADOW)
            for k in range((address - first) // item, (address - first + size - 1) // item + 1):
                look_at_cell(fiber, cells + C_SIZE * k, stamp, kind, False, line, address)
            return
    fail(fiber, OUT_OF_BOUNDS, line, address, size)

"""Warp operations: the lanes of a mask meet, the last one computes for all of them.

Operands and results lie in the slots of the fibers' records. A program says what to do: the number of operations, then code
(operations.py) and first slot of each; independent operations share one meeting.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import load_i64 as load
from graphc.backends.cpu.codegen.intrinsics import load_u32, store_u32
from graphc.backends.cpu.codegen.intrinsics import store_i64 as store
from graphc.backends.cuda.emulator.faults import DIVERGED, NO_SUCH_LANE, NOT_IN_MASK
from graphc.backends.cuda.emulator.fibers_njit import fail, reschedule, sleep
from graphc.backends.cuda.emulator.machine_njit import lowest
from graphc.backends.cuda.emulator.matrix_njit import ldmatrix, mma, slot, wgmma
from graphc.backends.cuda.emulator.operations import (
    ALL,
    ANY,
    DOWN,
    INDEX,
    LDMATRIX,
    MATCH,
    MMA,
    SHUFFLE,
    SYNCWARP,
    UP,
    VOTE,
    WGMMA,
)
from graphc.backends.cuda.emulator.records import (
    B_FIBERS,
    B_RUNNABLE,
    B_SCRATCH,
    F_BLOCK,
    F_LANE,
    F_LINE,
    F_MASK,
    F_OPERATION,
    F_SIZE,
    F_SLOTS,
    F_THREAD,
    F_WARP,
    W_EPOCH,
    W_EXIST,
    W_HERE,
    W_RUN,
    WARP,
    WORD,
)


@njit(error_model="numpy")
def collective(fiber, program, mask, line):
    block = load(fiber + F_BLOCK)
    warp = WORD * load(fiber + F_WARP)
    me = 1 << load(fiber + F_LANE)
    mask &= load(block + W_EXIST + warp)
    if mask & me == 0:
        fail(fiber, NOT_IN_MASK, line, 0, 0)
    store(fiber + F_OPERATION, program)
    store(fiber + F_MASK, mask)
    store(fiber + F_LINE, line)
    here = load(block + W_HERE + warp) | me
    if here & mask != mask:
        store(block + W_HERE + warp, here)
        sleep(fiber, block)
        reschedule(fiber)
        return
    store(block + W_HERE + warp, here & ~mask)
    first = load(block + B_FIBERS) + load(fiber + F_WARP) * (WARP * F_SIZE)
    lanes = mask
    while lanes != 0:
        other = first + lowest(lanes) * F_SIZE
        lanes &= lanes - 1
        if load(other + F_OPERATION) != program or load(other + F_MASK) != mask or load(other + F_LINE) != line:
            fail(fiber, DIVERGED, line, 0, load(other + F_THREAD))
    for i in range(load(program)):
        code = load(program + 2 * WORD * i + WORD)
        slots = first + F_SLOTS + 4 * load(program + 2 * WORD * i + 2 * WORD)
        operation, parameter = code & 0xFF, code >> 8
        if operation == MMA:
            mma(block, slots, parameter)
        elif operation == LDMATRIX:
            ldmatrix(block, first, slots, parameter & 7, parameter >> 3, line)
        elif operation == SYNCWARP:
            store(block + W_EPOCH + warp, load(block + W_EPOCH + warp) + 1)
        elif operation == SHUFFLE:
            shuffle(fiber, slots, mask, line)
        elif operation == VOTE:
            vote(slots, mask)
        elif operation == MATCH:
            match(slots, mask)
        elif operation == WGMMA:
            wgmma(fiber, block, first, slots, parameter & 7, parameter >> 4, parameter & 8 != 0, line)
    store(block + W_RUN + warp, load(block + W_RUN + warp) | mask)
    store(block + B_RUNNABLE, load(block + B_RUNNABLE) | 1 << load(fiber + F_WARP))


@njit(error_model="numpy")
def shuffle(fiber, slots, mask, line):
    """Slots: mode, value, lane or distance, clamp (as PTX has it: the last lane, and above it the mask of segments); results:
    value, whether it comes from the lane that was asked for."""
    values = load(load(fiber + F_BLOCK) + B_SCRATCH)
    for lane in range(WARP):
        store_u32(values + 4 * lane, load_u32(slot(slots, lane, 1)))
    for lane in range(WARP):
        if mask >> lane & 1 == 0:
            continue
        mode = load_u32(slot(slots, lane, 0))
        by = load_u32(slot(slots, lane, 2)) & 31
        clamp = load_u32(slot(slots, lane, 3))
        segment = clamp >> 8 & 31
        limit = lane & segment | clamp & 31 & ~segment
        if mode == UP:
            source = lane - by
            found = source >= limit
        else:
            if mode == INDEX:
                source = lane & segment | by & ~segment
            elif mode == DOWN:
                source = lane + by
            else:
                source = lane ^ by
            found = source <= limit
        if not found:
            source = lane
        if mask >> source & 1 == 0:
            fail(fiber, NO_SUCH_LANE, line, 0, source)
        store_u32(slot(slots, lane, 0), load_u32(values + 4 * source))
        store_u32(slot(slots, lane, 1), 1 if found else 0)


@njit(error_model="numpy")
def vote(slots, mask):
    """Slots: mode, predicate; results: the ballot, the predicate of the mode."""
    ballot = 0
    lanes = mask
    while lanes != 0:
        lane = lowest(lanes)
        lanes &= lanes - 1
        ballot |= (load_u32(slot(slots, lane, 1)) & 1) << lane
    lanes = mask
    while lanes != 0:
        lane = lowest(lanes)
        lanes &= lanes - 1
        mode = load_u32(slot(slots, lane, 0))
        if mode == ALL:
            holds = ballot == mask
        elif mode == ANY:
            holds = ballot != 0
        else:
            holds = ballot == mask or ballot == 0
        store_u32(slot(slots, lane, 0), ballot)
        store_u32(slot(slots, lane, 1), 1 if holds else 0)


@njit(error_model="numpy")
def match(slots, mask):
    """Slot: value; result: the lanes that have the same."""
    for lane in range(WARP):
        if mask >> lane & 1:
            same = 0
            for other in range(WARP):
                if mask >> other & 1 and load_u32(slot(slots, other, 0)) == load_u32(slot(slots, lane, 0)):
                    same |= 1 << other
            store_u32(slot(slots, lane, 1), same)
    for lane in range(WARP):
        if mask >> lane & 1:
            store_u32(slot(slots, lane, 0), load_u32(slot(slots, lane, 1)))

"""The scheduler: which fiber runs next, barriers of the block, the end of a thread, faults."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import load_i64 as load
from graphc.backends.cpu.codegen.intrinsics import store_i64 as store
from graphc.backends.cuda.emulator.faults import ALONE, DEADLOCK, ENDED, OTHER_BARRIER, STACK_OVERFLOW
from graphc.backends.cuda.emulator.machine_njit import lowest, switch
from graphc.backends.cuda.emulator.records import (
    B_ALL,
    B_ANY,
    B_ARRIVED,
    B_BARRIER_LINE,
    B_BLOCK,
    B_CHECK,
    B_COUNT,
    B_EPOCH,
    B_EVENTS,
    B_FAULT,
    B_FAULT_ADDRESS,
    B_FAULT_LINE,
    B_FAULT_OTHER,
    B_FAULT_THREAD,
    B_FIBERS,
    B_LAST_ALL,
    B_LAST_ANY,
    B_LAST_COUNT,
    B_LIVE,
    B_MAIN,
    B_RUNNABLE,
    B_STAMP,
    B_THREADS,
    B_TOGETHER,
    CANARY,
    F_BLOCK,
    F_LANE,
    F_LINE,
    F_SIZE,
    F_SP,
    F_STACK,
    F_THREAD,
    F_WARP,
    W_ALIVE,
    W_RUN,
    WARP,
    WORD,
)


@njit(error_model="numpy")
def note(fiber, code, line, address, other):
    """Write a fault down."""
    block = load(fiber + F_BLOCK)
    store(block + B_FAULT, code)
    store(block + B_FAULT_THREAD, load(fiber + F_THREAD))
    store(block + B_FAULT_LINE, line)
    store(block + B_FAULT_ADDRESS, address)
    store(block + B_FAULT_OTHER, other)


@njit(error_model="numpy")
def fail(fiber, code, line, address, other):
    """Write a fault down and leave the block. Its other fibers are simply abandoned; does not return."""
    note(fiber, code, line, address, other)
    switch(fiber + F_SP, load(load(fiber + F_BLOCK) + B_MAIN))


@njit(error_model="numpy")
def fault(fiber, code, line):
    """A fault that the kernel's own code has found."""
    fail(fiber, code, line, 0, 0)


@njit(error_model="numpy")
def look_at_stack(fiber):
    if load(load(fiber + F_STACK)) != CANARY:
        fail(fiber, STACK_OVERFLOW, load(fiber + F_LINE), 0, 0)


@njit(error_model="numpy")
def reschedule(fiber):
    """Run another fiber: the next lane of this warp that can, else one of the next warp. Returns when this one may go on."""
    look_at_stack(fiber)
    block = load(fiber + F_BLOCK)
    warp = load(fiber + F_WARP)
    lanes = load(block + W_RUN + WORD * warp)
    if lanes == 0:
        warps = load(block + B_RUNNABLE)
        if warps == 0:
            fail(fiber, DEADLOCK, load(fiber + F_LINE), 0, 0)
        behind = warps & ~((2 << warp) - 1)
        warp = lowest(behind if behind != 0 else warps)
        lane = lowest(load(block + W_RUN + WORD * warp))
    else:
        behind = lanes & ~((2 << load(fiber + F_LANE)) - 1)
        lane = lowest(behind if behind != 0 else lanes)
    other = load(block + B_FIBERS) + (warp * WARP + lane) * F_SIZE
    if other != fiber:
        switch(fiber + F_SP, load(other + F_SP))


@njit(error_model="numpy")
def first_runnable(block):
    """The first fiber of the block that can run, of those that have one."""
    warp = lowest(load(block + B_RUNNABLE))
    return load(block + B_FIBERS) + (warp * WARP + lowest(load(block + W_RUN + WORD * warp))) * F_SIZE


@njit(error_model="numpy")
def pause(fiber, line):
    """The thread waits for what another block writes: first the threads behind it run, then other blocks."""
    look_at_stack(fiber)
    block = load(fiber + F_BLOCK)
    store(fiber + F_LINE, line)
    if load(block + B_TOGETHER) == 0:
        fail(fiber, ALONE, line, 0, 0)
    warp = load(fiber + F_WARP)
    lanes = load(block + W_RUN + WORD * warp) & ~((2 << load(fiber + F_LANE)) - 1)
    if lanes == 0:
        warps = load(block + B_RUNNABLE) & ~((2 << warp) - 1)
        if warps == 0:
            switch(fiber + F_SP, load(block + B_MAIN))
            return
        warp = lowest(warps)
        lanes = load(block + W_RUN + WORD * warp)
    switch(fiber + F_SP, load(load(block + B_FIBERS) + (warp * WARP + lowest(lanes)) * F_SIZE + F_SP))


@njit(error_model="numpy")
def happened(block):
    """Something that other blocks may wait for."""
    store(block + B_EVENTS, load(block + B_EVENTS) + 1)


@njit(error_model="numpy")
def sleep(fiber, block):
    """The fiber can't run until somebody makes it runnable."""
    warp = load(fiber + F_WARP)
    lanes = load(block + W_RUN + WORD * warp) & ~(1 << load(fiber + F_LANE))
    store(block + W_RUN + WORD * warp, lanes)
    if lanes == 0:
        store(block + B_RUNNABLE, load(block + B_RUNNABLE) & ~(1 << warp))


@njit(error_model="numpy")
def set_stamp(block):
    """What the checker's stamps of this block and this stretch between barriers have in common (checker_njit.py)."""
    store(block + B_STAMP, (load(block + B_BLOCK) & 0xFFFFFF) << 40 | (load(block + B_EPOCH) & 0xFFFF) << 24)


@njit(error_model="numpy")
def release(block):
    """All threads are at the barrier: they can run."""
    warps = 0
    for warp in range((load(block + B_THREADS) + WARP - 1) // WARP):
        alive = load(block + W_ALIVE + WORD * warp)
        store(block + W_RUN + WORD * warp, alive)
        if alive != 0:
            warps |= 1 << warp
    store(block + B_RUNNABLE, warps)
    store(block + B_ARRIVED, 0)
    store(block + B_EPOCH, load(block + B_EPOCH) + 1)
    set_stamp(block)
    happened(block)
    store(block + B_LAST_COUNT, load(block + B_COUNT))
    store(block + B_LAST_ALL, load(block + B_ALL))
    store(block + B_LAST_ANY, load(block + B_ANY))


@njit(error_model="numpy")
def barrier(fiber, kind, predicate, line):
    """__syncthreads; kind 1, 2, 3: gives for how many threads the predicate holds, whether for all, whether for any."""
    block = load(fiber + F_BLOCK)
    arrived = load(block + B_ARRIVED) + 1
    store(fiber + F_LINE, line)
    if arrived == 1:
        store(block + B_BARRIER_LINE, line)
        store(block + B_COUNT, 0)
        store(block + B_ALL, 1)
        store(block + B_ANY, 0)
    elif load(block + B_BARRIER_LINE) != line:
        fail(fiber, OTHER_BARRIER, line, 0, 0)
    if load(block + B_CHECK) != 0 and load(block + B_LIVE) != load(block + B_THREADS):
        fail(fiber, ENDED, line, 0, 0)
    holds = 1 if predicate != 0 else 0
    store(block + B_COUNT, load(block + B_COUNT) + holds)
    store(block + B_ALL, load(block + B_ALL) & holds)
    store(block + B_ANY, load(block + B_ANY) | holds)
    store(block + B_ARRIVED, arrived)
    if arrived == load(block + B_LIVE):
        release(block)
    else:
        sleep(fiber, block)
        reschedule(fiber)
    return load(block + B_LAST_COUNT + WORD * (kind - 1)) if kind > 0 else 0


@njit(error_model="numpy")
def leave(fiber):
    """The end of a thread; does not return."""
    block = load(fiber + F_BLOCK)
    warp = load(fiber + F_WARP)
    look_at_stack(fiber)
    live = load(block + B_LIVE) - 1
    store(block + B_LIVE, live)
    happened(block)
    store(block + W_ALIVE + WORD * warp, load(block + W_ALIVE + WORD * warp) & ~(1 << load(fiber + F_LANE)))
    sleep(fiber, block)
    if live == 0:
        switch(fiber + F_SP, load(block + B_MAIN))
    if load(block + B_ARRIVED) > 0:
        if load(block + B_CHECK) != 0:
            fail(fiber, ENDED, load(block + B_BARRIER_LINE), 0, 0)
        if load(block + B_ARRIVED) == live:  # the hardware counts ended threads as arrived
            release(block)
    reschedule(fiber)

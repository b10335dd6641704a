"""Runs blocks: each begins with a fiber for each thread, and ends with the last of them, or at a fault. One after another, or all
of a grid at once, which then take turns."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import fill_bytes
from graphc.backends.cpu.codegen.intrinsics import load_i64 as load
from graphc.backends.cpu.codegen.intrinsics import store_i64 as store
from graphc.backends.cuda.emulator.faults import NOBODY
from graphc.backends.cuda.emulator.fibers_njit import first_runnable, note, set_stamp
from graphc.backends.cuda.emulator.machine_njit import start_address, switch
from graphc.backends.cuda.emulator.records import (
    B_ARRIVED,
    B_BLOCK,
    B_ENTRY,
    B_EPOCH,
    B_EVENTS,
    B_FAULT,
    B_FIBERS,
    B_LIVE,
    B_MAIN,
    B_RUNNABLE,
    B_SHARED,
    B_SHARED_BYTES,
    B_STACK_BYTES,
    B_STACKS,
    B_THREADS,
    CANARY,
    F_COPIES,
    F_GROUP,
    F_LINE,
    F_SIZE,
    F_SP,
    F_STACK,
    GAP,
    W_ALIVE,
    W_EPOCH,
    W_EXIST,
    W_HERE,
    W_RUN,
    WARP,
    WORD,
)
from graphc.backends.cuda.emulator.switch import ARGUMENT_AT, FUNCTION_AT, NEW_STACK, RETURN_AT

QUIET = 8  # turns of all blocks in which nothing happens, before it is a deadlock


@njit(error_model="numpy")
def set_up(block, number):
    """Block `number` with all its threads, before their first instruction. The memory is the worker's, whose record `block` is."""
    store(block + B_BLOCK, number)
    store(block + B_EVENTS, 0)
    fill_bytes(load(block + B_SHARED), load(block + B_SHARED_BYTES), 0xFF)  # NaN in every float format
    threads, entry, start = load(block + B_THREADS), load(block + B_ENTRY), start_address()
    fibers, stacks, stack_bytes = load(block + B_FIBERS), load(block + B_STACKS), load(block + B_STACK_BYTES)
    store(block + B_LIVE, threads)
    store(block + B_ARRIVED, 0)
    store(block + B_EPOCH, 1)
    set_stamp(block)
    warps = (threads + WARP - 1) // WARP
    for warp in range(warps):
        lanes = (1 << min(threads - WARP * warp, WARP)) - 1
        store(block + W_RUN + WORD * warp, lanes)
        store(block + W_ALIVE + WORD * warp, lanes)
        store(block + W_EXIST + WORD * warp, lanes)
        store(block + W_HERE + WORD * warp, 0)
        store(block + W_EPOCH + WORD * warp, 0)
    store(block + B_RUNNABLE, (1 << warps) - 1)
    for thread in range(threads):
        fiber = fibers + F_SIZE * thread
        lowest_used = stacks + stack_bytes * thread + GAP
        top = stacks + stack_bytes * (thread + 1) - NEW_STACK
        store(lowest_used, CANARY)
        store(top + FUNCTION_AT, entry)
        store(top + ARGUMENT_AT, fiber)
        store(top + RETURN_AT, start)
        store(fiber + F_STACK, lowest_used)
        store(fiber + F_SP, top)
        store(fiber + F_LINE, 0)
        store(fiber + F_COPIES, 0)
        store(fiber + F_GROUP, 0)


@njit(error_model="numpy")
def run_blocks(block, first, end, step):
    """Blocks first, first + step … below `end`, one after another; stops at a fault."""
    store(block + B_FAULT, 0)
    for number in range(first, end, step):
        set_up(block, number)
        switch(block + B_MAIN, load(first_runnable(block) + F_SP))
        if load(block + B_FAULT) != 0:
            return


@njit(error_model="numpy")
def run_together(blocks, count):
    """As many blocks, each of a worker of its own, whose records' addresses are there: one runs until all its threads wait for
    others. Stops at a fault."""
    for i in range(count):
        block = load(blocks + WORD * i)
        store(block + B_FAULT, 0)
        set_up(block, i)
    live, before, quiet = count, -1, 0
    while live > 0:
        live, events, waits = 0, 0, 0
        for i in range(count):
            block = load(blocks + WORD * i)
            if load(block + B_LIVE) > 0:
                switch(block + B_MAIN, load(first_runnable(block) + F_SP))
                if load(block + B_FAULT) != 0:
                    return
                if load(block + B_LIVE) > 0:
                    live, waits = live + 1, block
            events += load(block + B_EVENTS)
        quiet = quiet + 1 if events == before else 0
        before = events
        if live > 0 and quiet == QUIET:
            fiber = first_runnable(waits)
            note(fiber, NOBODY, load(fiber + F_LINE), 0, 0)
            return

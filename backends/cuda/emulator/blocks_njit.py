"""Runs blocks: each begins with a fiber for each thread, and ends with the last of them, or at a fault."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import fill_bytes
from graphc.backends.cpu.codegen.intrinsics import load_i64 as load
from graphc.backends.cpu.codegen.intrinsics import store_i64 as store
from graphc.backends.cuda.emulator.fibers_njit import set_stamp
from graphc.backends.cuda.emulator.machine_njit import start_address, switch
from graphc.backends.cuda.emulator.records import (
    B_ARRIVED,
    B_BLOCK,
    B_ENTRY,
    B_EPOCH,
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


@njit(error_model="numpy")
def run_block(block):
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
    switch(block + B_MAIN, load(fibers + F_SP))


@njit(error_model="numpy")
def run_blocks(block, first, end, step):
    """Blocks first, first + step … below `end`; stops at a fault. The memory is the worker's, whose record `block` is."""
    store(block + B_FAULT, 0)
    for number in range(first, end, step):
        store(block + B_BLOCK, number)
        fill_bytes(load(block + B_SHARED), load(block + B_SHARED_BYTES), 0xFF)  # NaN in every float format
        run_block(block)
        if load(block + B_FAULT) != 0:
            return

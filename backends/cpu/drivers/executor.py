"""The executor: walks a program's table of (driver address, argument block address) without Python.

Threads enter once per inference and meet at a spin barrier after each step; who waits long sleeps in the kernel (futex).

Control block of a thread pool, one int64 a cache line (CACHE_LINE bytes apart), so that waiting on one word does not
disturb the others: see the names below.
"""

from __future__ import annotations

from numba import njit, types

from backends.cpu.drivers.work import TURN
from backends.cpu.intrinsics import (
    FUTEX_WAIT_PRIVATE,
    FUTEX_WAKE_PRIVATE,
    as_block,
    atomic_add,
    atomic_load,
    atomic_store,
    call3,
    futex,
    i64,
    pause,
)
from backends.cpu.toolchain import driver

CACHE_LINE = 64
ARRIVED, GENERATION, SLEEPERS, JOB, JOB_SLEEPERS, QUIT, STEPS, COUNT, DONE, USERS = (CACHE_LINE * i for i in range(10))
CONTROL_BYTES = CACHE_LINE * 16
EVERYONE = 0x7FFFFFFF


@njit(error_model="numpy")
def _wait_change(word, old, sleepers, spins):
    n = 0
    while atomic_load(word) == old:
        if n < spins:
            n += 1
            pause()
        else:
            atomic_add(sleepers, 1)
            if atomic_load(word) == old:
                futex(word, FUTEX_WAIT_PRIVATE, old & 0xFFFFFFFF)
            atomic_add(sleepers, -1)


@njit(error_model="numpy")
def _barrier(control, nth, spins):
    generation = atomic_load(control + GENERATION)
    if atomic_add(control + ARRIVED, 1) == nth - 1:
        atomic_store(control + ARRIVED, 0)
        atomic_add(control + GENERATION, 1)
        if atomic_load(control + SLEEPERS) > 0:
            futex(control + GENERATION, FUTEX_WAKE_PRIVATE, EVERYONE)
    else:
        _wait_change(control + GENERATION, generation, control + SLEEPERS, spins)


@njit(error_model="numpy")
def _run(steps, count, tid, nth, control, spins):
    table = as_block(steps)
    for i in range(count):
        call3(table[2 * i], table[2 * i + 1], tid, nth)
        if nth > 1:
            _barrier(control, nth, spins)
            if tid == 0:  # everybody has left the step: its work can be taken in turn again in the next run
                atomic_store(table[2 * i + 1] + TURN, 0)


@driver("execute")
def execute(target):
    """(steps, count): a program on the calling thread alone."""

    def execute(steps, count):
        _run(steps, count, 0, 1, 0, 0)

    return execute, types.void(i64, i64)


@driver("work")
def work(target):
    """(control, tid, nth, spins): the life of a worker thread, until QUIT. Acknowledges every job."""

    def work(control, tid, nth, spins):
        seen = 0
        while True:
            _wait_change(control + JOB, seen, control + JOB_SLEEPERS, spins)
            seen = atomic_load(control + JOB)
            if atomic_load(control + QUIT) != 0:
                return
            _run(atomic_load(control + STEPS), atomic_load(control + COUNT), tid, nth, control, spins)
            atomic_add(control + DONE, 1)

    return work, types.void(i64, i64, i64, i64)


@driver("submit")
def submit(target):
    """(control, steps, count, nth, spins): a program on the pool's threads; the caller is thread 0.

    Returns 0, or 1 at once where another thread uses the pool. A negative count lets the workers quit and keeps the pool
    in use for ever.
    """

    def submit(control, steps, count, nth, spins):
        if atomic_add(control + USERS, 1) != 0:
            atomic_add(control + USERS, -1)
            return 1
        if count < 0:
            atomic_store(control + QUIT, 1)
        atomic_store(control + STEPS, steps)
        atomic_store(control + COUNT, count)
        atomic_store(control + DONE, 0)
        atomic_add(control + JOB, 1)
        if atomic_load(control + JOB_SLEEPERS) > 0:
            futex(control + JOB, FUTEX_WAKE_PRIVATE, EVERYONE)
        if count < 0:
            return 0
        _run(steps, count, 0, nth, control, spins)
        while atomic_load(control + DONE) < nth - 1:
            pause()
        atomic_add(control + USERS, -1)
        return 0

    return submit, i64(i64, i64, i64, i64, i64)

"""The executor: walks a program's table of steps without Python.

A step is a driver's address, the address of its argument block, and whether other threads may help. The *leader*, the
thread that has called, goes through the table. A step that may be shared has one part for each thread of the pool; whoever
is there takes the next part, the leader too, and the leader goes on when all parts that were taken are done. So a worker
which the system has not scheduled holds up nobody: the leader takes its part.

Control block of a pool, one int64 a cache line (CACHE_LINE bytes apart), so that waiting on one word does not disturb the
others. TICKET: number of the shared step, then of the next part of it, PART_BITS wide; what is taken beyond the last part is
not there. STEP: address of the step's row of the table. FINISHED: parts that workers have done. SLEEPERS, LEADER_SLEEPS: does
anybody have to be woken? USERS: callers of `submit`. LEADER_CPU: where the leader runs. CPUS: those that workers may use, a
bit each, then those of each worker.

Schedulers like to put who is woken where the waker is: a worker that finds itself on the leader's CPU leaves it for good.
"""

from __future__ import annotations

from numba import njit, types

from graphc.backends.cpu.codegen.intrinsics import (
    FUTEX_WAIT_PRIVATE,
    FUTEX_WAKE_PRIVATE,
    as_block,
    atomic_add,
    atomic_load,
    atomic_store,
    call3,
    current_cpu,
    futex,
    i64,
    pause,
    set_affinity,
)
from graphc.backends.cpu.executor.program_block import PROGRAM_STEP, Execute, Submit, Work
from graphc.backends.cpu.executor.work_njit import TURN
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.sizes import CACHE_LINE, CONTROL_BYTES, MASK_BYTES

TICKET, STEP, FINISHED, SLEEPERS, LEADER_SLEEPS, QUIT, USERS, LEADER_CPU = range(0, CONTROL_BYTES, CACHE_LINE)
CPUS = CONTROL_BYTES
PART_BITS = 16
PART = (1 << PART_BITS) - 1
DRIVER, BLOCK, SHARED = PROGRAM_STEP["driver block shared"]
ROW = PROGRAM_STEP.size
EVERYONE = 0x7FFFFFFF


@njit(error_model="numpy")
def wait_change(word, old, sleepers, spins):
    """Spin, then sleep, until a word differs from `old`; `sleepers` counts who sleeps."""
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
def next_step(control, seen, spins):
    """Wait until another step than number `seen` is there."""
    n = 0
    ticket = atomic_load(control + TICKET)
    while ticket >> PART_BITS == seen:
        if n < spins:
            n += 1
            pause()
        else:
            atomic_add(control + SLEEPERS, 1)  # who wakes us sets it back
            futex(control + TICKET, FUTEX_WAIT_PRIVATE, ticket & 0xFFFFFFFF)
        ticket = atomic_load(control + TICKET)


@njit(error_model="numpy")
def _leave(control, cpu, worker):
    """Let a worker run on all CPUs but one, if there are others."""
    allowed = as_block(control + CPUS)
    mine = control + CPUS + worker * MASK_BYTES
    mask, others = as_block(mine), 0
    for i in range(MASK_BYTES // 8):
        mask[i] = allowed[i] & ~(1 << (cpu & 63)) if i == cpu >> 6 else allowed[i]
        others |= mask[i]
    if others != 0:
        set_affinity(mine, MASK_BYTES)


@njit(error_model="numpy")
def announce(control, step, taken):
    """A new step, of which the leader has taken some parts."""
    number = (atomic_load(control + TICKET) >> PART_BITS) + 1
    atomic_store(control + STEP, step)
    atomic_store(control + LEADER_CPU, current_cpu())
    atomic_store(control + FINISHED, 0)
    atomic_store(control + TICKET, (number << PART_BITS) + taken)
    if atomic_load(control + SLEEPERS) > 0:
        atomic_store(control + SLEEPERS, 0)
        futex(control + TICKET, FUTEX_WAKE_PRIVATE, EVERYONE)


@njit(error_model="numpy")
def lead(control, at, nth, spins):
    """A step, with the workers' help."""
    step = as_block(at)
    announce(control, at, 1)
    part, mine = 0, 0
    while part < nth:
        call3(step[DRIVER], step[BLOCK], part, nth)
        mine += 1
        part = atomic_add(control + TICKET, 1) & PART
    done = atomic_load(control + FINISHED)
    while done < nth - mine:
        wait_change(control + FINISHED, done, control + LEADER_SLEEPS, spins)
        done = atomic_load(control + FINISHED)
    atomic_store(step[BLOCK] + TURN, 0)  # its work can be taken in turn again in the next run


@driver(Execute)
def execute(target):
    """(steps, count): a program on the calling thread alone."""

    def execute(steps, count):
        table = as_block(steps)
        for i in range(count):
            call3(table[ROW * i + DRIVER], table[ROW * i + BLOCK], 0, 1)

    return execute, types.void(i64, i64)


@driver(Work)
def work(target):
    """(control, worker, nth, spins): the life of a worker thread, from 1 on, until QUIT."""

    def work(control, worker, nth, spins):
        seen = 0
        while True:
            next_step(control, seen, spins)
            if atomic_load(control + QUIT) != 0:
                return
            cpu = current_cpu()
            if cpu == atomic_load(control + LEADER_CPU):
                _leave(control, cpu, worker)
            ticket = atomic_add(control + TICKET, 1)
            while ticket & PART < nth:  # the step stays where it is until this part is done
                step = as_block(atomic_load(control + STEP))
                call3(step[DRIVER], step[BLOCK], ticket & PART, nth)
                atomic_add(control + FINISHED, 1)
                if atomic_load(control + LEADER_SLEEPS) > 0:
                    futex(control + FINISHED, FUTEX_WAKE_PRIVATE, EVERYONE)
                ticket = atomic_add(control + TICKET, 1)
            seen = ticket >> PART_BITS

    return work, types.void(i64, i64, i64, i64)


@driver(Submit)
def submit(target):
    """(control, steps, count, nth, spins): a program on the pool's threads; the caller leads.

    Returns 0, or 1 at once where another thread uses the pool. A negative count lets the workers quit and keeps the pool
    in use for ever.
    """

    def submit(control, steps, count, nth, spins):
        if atomic_add(control + USERS, 1) != 0:
            atomic_add(control + USERS, -1)
            return 1
        if count < 0:
            atomic_store(control + QUIT, 1)
            announce(control, 0, nth)
            return 0
        for i in range(count):
            at = steps + 8 * ROW * i
            step = as_block(at)
            if step[SHARED] != 0:
                lead(control, at, nth, spins)
            else:
                call3(step[DRIVER], step[BLOCK], 0, 1)
        atomic_add(control + USERS, -1)
        return 0

    return submit, i64(i64, i64, i64, i64, i64)

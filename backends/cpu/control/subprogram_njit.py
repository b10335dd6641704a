"""A program within a step: its words are copied to memory of their own, where addresses may change, and its steps run.

The thread that comes to the step first leads. Where a step of the program is worth it, the others are its team: they take
parts of such steps as the executor's workers do, and leave when the program is over. So who comes late, or never, holds up
nobody.
"""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    FUTEX_WAKE_PRIVATE,
    as_block,
    atomic_add,
    atomic_load,
    atomic_store,
    block_address,
    call3,
    copy_bytes,
    fill_bytes,
    futex,
    load_i64,
    pause,
    store_i64,
)
from graphc.backends.cpu.control.subprogram_block import CHECK, SUBPROGRAM, TEAM
from graphc.backends.cpu.executor.executor_driver import (
    BLOCK,
    DRIVER,
    EVERYONE,
    FINISHED,
    LEADER_SLEEPS,
    PART,
    PART_BITS,
    QUIT,
    ROW,
    SHARED,
    STEP,
    TICKET,
    announce,
    lead,
    next_step,
)
from graphc.backends.cpu.executor.work_njit import TURN
from graphc.backends.cpu.runtime.threads import SPINS
from graphc.backends.cpu.sizes import CONTROL_BYTES

STEPS, WORDS, WORDS_AT, COPY, CHECKS, CHECKS_AT = SUBPROGRAM["steps words words_at copy checks checks_at"]
IS_TEAM, CONTROL, REPORT, REPORT_CHECKS = TEAM["team control report number"]
CHECK_WORD, CHECK_PAIRS, CHECK_NUMBER = CHECK["word pairs number"]
CHECK_SIZE = CHECK.size
READY = 1 << 32  # of the word in which threads are counted: the control block can be read


@njit(error_model="numpy")
def leads(a, team, nth):
    """Is this thread the one that runs the program? Another one has helped it to the end when this returns. team: index of
    the words of TEAM."""
    if nth == 1:
        return True
    turn = block_address(a) + TURN
    if atomic_add(turn, 1) != 0:
        if a[team + IS_TEAM] != 0:
            while atomic_load(turn) < READY:
                pause()
            _help(a[team + CONTROL], nth)
        return False
    if a[team + IS_TEAM] != 0:
        fill_bytes(a[team + CONTROL], CONTROL_BYTES, 0)
        atomic_add(turn, READY)
    return True


@njit(error_model="numpy")
def _help(control, nth):
    """Take parts of steps until the program is over."""
    seen = 0
    while atomic_load(control + QUIT) == 0:  # its announcement may be what the last look at the tickets has seen
        next_step(control, seen, SPINS)
        ticket = atomic_add(control + TICKET, 1)
        while ticket & PART < nth:
            step = as_block(atomic_load(control + STEP))
            call3(step[DRIVER], step[BLOCK], ticket & PART, nth)
            atomic_add(control + FINISHED, 1)
            if atomic_load(control + LEADER_SLEEPS) > 0:
                futex(control + FINISHED, FUTEX_WAKE_PRIVATE, EVERYONE)
            ticket = atomic_add(control + TICKET, 1)
        seen = ticket >> PART_BITS


@njit(error_model="numpy")
def dismiss(a, team, nth):
    """The program is over."""
    if nth > 1 and a[team + IS_TEAM] != 0:
        atomic_store(a[team + CONTROL] + QUIT, 1)
        announce(a[team + CONTROL], 0, nth)


@njit(error_model="numpy")
def begin(a, program):
    """Copy the words. program: index of the words of SUBPROGRAM."""
    copy = a[program + COPY]
    copy_bytes(copy, block_address(a) + 8 * a[program + WORDS_AT], 8 * a[program + WORDS])
    for i in range(a[program + STEPS]):
        at = copy + 8 * (ROW * i + BLOCK)
        store_i64(at, copy + 8 * load_i64(at))


@njit(error_model="numpy")
def run_steps(a, program, team, nth):
    """All steps, once. Did none of them find a position out of range? The first is reported for this step."""
    copy = a[program + COPY]
    for i in range(a[program + STEPS]):
        at = copy + 8 * ROW * i
        step = as_block(at)
        if step[SHARED] != 0 and nth > 1:
            lead(a[team + CONTROL], at, nth, SPINS)
        else:
            call3(step[DRIVER], step[BLOCK], 0, 1)
    for k in range(a[program + CHECKS]):
        check = a[program + CHECKS_AT] + CHECK_SIZE * k
        first, value = 0, 0
        for i in range(a[check + CHECK_PAIRS]):
            pair = copy + 8 * (a[check + CHECK_WORD] + 2 * i)
            number = load_i64(pair)
            if number != 0 and (first == 0 or number < first):
                first, value = number, load_i64(pair + 8)
        if first != 0:
            report = block_address(a) + 8 * a[team + REPORT]
            store_i64(report, (first - 1) * a[team + REPORT_CHECKS] + a[check + CHECK_NUMBER] + 1)
            store_i64(report + 8, value)
            return False
    return True

"""What surrounds the steps of a loop's body."""

from __future__ import annotations

from numba.cuda.types import int64

from graphc.backends.cuda.codegen.device import load, move, store, word
from graphc.backends.cuda.codegen.guarded import divide_wide
from graphc.backends.cuda.codegen.threads import thread, thread_number
from graphc.backends.cuda.control.loop_block import (
    CARRY,
    DONE,
    END,
    GOING,
    LOOP_BEGIN,
    LOOP_END,
    LOOP_NEXT,
    ON,
    TURN,
    Carry,
    LoopBegin,
    LoopEnd,
    LoopNext,
)
from graphc.backends.cuda.kernel import THREADS, Code, makes

load_word, store_word, load_flag, store_flag = load("int64"), store("int64"), load("bool"), store("bool")


@makes(LoopBegin)
def loop_begin() -> Code:
    CONTROL, TRIPS, FIRST, LIMIT, CONDITION = LOOP_BEGIN["control trips first limit condition"]

    def loop_begin(a):
        if thread() == 0:
            control, first, end, going = word(a, CONTROL), int64(0), word(a, TRIPS), True
            if word(a, FIRST) != 0:
                first = load_word(word(a, FIRST))
            if word(a, LIMIT) != 0:
                end = min(end, load_word(word(a, LIMIT)) - first)
            if word(a, CONDITION) != 0:
                going = load_flag(word(a, CONDITION))
            store_word(control + TURN, first)
            store_word(control + DONE, 0)
            store_word(control + END, end)
            store_flag(control + ON, going and end > 0)
            store_flag(control + GOING, going)

    return Code(loop_begin, 32)


@makes(LoopNext)
def loop_next() -> Code:
    CONTROL, AGAIN = LOOP_NEXT["control again"]

    def loop_next(a):
        if thread() == 0:
            control, going = word(a, CONTROL), True
            done = load_word(control + DONE) + 1
            if word(a, AGAIN) != 0:
                going = load_flag(word(a, AGAIN))
            store_word(control + TURN, load_word(control + TURN) + 1)
            store_word(control + DONE, done)
            store_flag(control + ON, going and done < load_word(control + END))
            store_flag(control + GOING, going)

    return Code(loop_next, 32)


@makes(LoopEnd)
def loop_end() -> Code:
    CONTROL, DONE_TO, GOING_TO = LOOP_END["control done going"]

    def loop_end(a):
        if thread() == 0:
            store_word(word(a, DONE_TO), load_word(word(a, CONTROL) + DONE))
            store_flag(word(a, GOING_TO), load_flag(word(a, CONTROL) + GOING))

    return Code(loop_end, 32)


@makes(Carry)
def carry(item: int, count: int) -> Code:
    """A thread per unit."""
    TOTAL, CONTROL = CARRY["total control"]
    UNITS, PER_ROW, SOURCE, SOURCE_ROW, SOURCE_STEP = (
        CARRY.size + at for at in CARRY.in_record("units per_row source source_row source_step")
    )
    TO, TO_ROW, TO_STEP = (CARRY.size + at for at in CARRY.in_record("to to_row to_step"))
    NEXT, copy = CARRY.record_size, move(item)

    def carry(a):
        i = thread_number(THREADS)
        if i < word(a, TOTAL):
            trip, record = int64(0), 0
            if word(a, CONTROL) != 0:
                trip = load_word(word(a, CONTROL) + DONE)
            while record < (count - 1) * NEXT and i >= word(a, UNITS + record):
                i -= word(a, UNITS + record)
                record += NEXT
            row = divide_wide(i, word(a, PER_ROW + record))
            at = (i - row * word(a, PER_ROW + record)) * item
            source = (
                word(a, SOURCE + record) + trip * word(a, SOURCE_STEP + record) + row * word(a, SOURCE_ROW + record)
            )
            to = word(a, TO + record) + trip * word(a, TO_STEP + record) + row * word(a, TO_ROW + record)
            copy(to + at, source + at)

    return Code(carry)

"""What is before the first step and behind the last one: states come and go, sequences end early."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from numba.cuda.extending import register_jitable
from numba.cuda.types import int32, int64

from graphc.backends.cuda.codegen.device import load, register, store, word
from graphc.backends.cuda.codegen.guarded import divide
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.recurrent.recurrent_block import (
    RECURRENT,
    RecurrentEnd,
    slot_count,
    slots_of,
)
from graphc.backends.cuda.recurrent.stage_kernels import address
from graphc.backends.cuda.recurrent.state_kernels import accessors, pointer_to
from graphc.backends.cuda.verbs.index_kernels import position_at, report
from graphc.lower.recurrent_cells import Stage
from graphc.types import dtype_from_name

INDICES, GROUPS, SEQ, BATCH, HIDDEN = RECURRENT["indices groups seq batch hidden"]
H, H_DIRECTION, H_ROW, C, C_DIRECTION, C_ROW = RECURRENT["h h_direction h_row c c_direction c_row"]
Y, Y_DIRECTION, Y_ROW, Y_TIME = RECURRENT["y y_direction y_row y_time"]
H_FINAL, H_FINAL_DIRECTION, H_FINAL_ROW = RECURRENT["h_final h_final_direction h_final_row"]
C_FINAL, C_FINAL_DIRECTION, C_FINAL_ROW = RECURRENT["c_final c_final_direction c_final_row"]
SCRATCH, SCRATCH_BYTES = RECURRENT["scratch scratch_bytes"]
REPORT = 8 * RECURRENT.size


@register_jitable
def length_of(a, row):
    """Steps of a sequence of the batch: 0 where there is no such row, or its length is out of range."""
    if row >= word(a, BATCH):
        return int32(0)
    length = word(a, SEQ)
    if word(a, INDICES) != 0:
        given = position_at(a, int64(row))
        length = given if 0 <= given <= length else 0
    return int32(length)


@register_jitable
def report_lengths(a, to, row0, end):
    """Of these rows, those that are out of range; to: where the block has its report."""
    if word(a, INDICES) != 0:
        seq = word(a, SEQ)
        for row in range(row0, end):
            given = position_at(a, int64(row))
            if given < 0 or given > seq:
                report(a, to, int64(row))


class Ends(NamedTuple):
    """begin(a, states, d, row0): initial states, and zeros; reports lengths out of range. finish(a, states, d, row0): final states;
    zeros behind the end of a sequence. By one block for the rows that it holds."""

    begin: Callable[..., None]
    finish: Callable[..., None]


def ends_of(stages: tuple[Stage, ...], rows: int, threads: int, dtype: str) -> Ends:
    slots, count = slots_of(stages), slot_count(stages)
    has_c, of_c = "c" in slots, slots.get("c", 0)
    kind = dtype_from_name(dtype)
    wide, item = summed(kind), kind.itemsize
    number, load_number, store_number = register(wide), load(dtype), store(dtype)
    get, put = accessors(wide)

    def begin(a, states, d, row0):
        t, batch, hidden = int32(thread()), int32(word(a, BATCH)), int32(word(a, HIDDEN))
        if t == 0 and d == 0:
            report_lengths(a, a + REPORT, row0, min(row0 + rows, batch))
        slot = int32(hidden * rows)
        i = t
        while i < slot:
            row = divide(i, hidden)
            unit = int32(i - row * hidden)
            at = int32(unit * rows + row)
            for k in range(count):
                put(states, k * slot + at, number(0))
            if row0 + row < batch:
                if word(a, H) != 0:
                    put(states, at, load_number(address(a, H, H_DIRECTION, H_ROW, d, row0 + row) + unit * item))
                if has_c and word(a, C) != 0:
                    initial = load_number(address(a, C, C_DIRECTION, C_ROW, d, row0 + row) + unit * item)
                    put(states, of_c * slot + at, initial)
            i = int32(i + threads)

    def finish(a, states, d, row0):
        t, seq, batch, hidden = int32(thread()), int32(word(a, SEQ)), int32(word(a, BATCH)), int32(word(a, HIDDEN))
        slot = int32(hidden * rows)
        i = t
        while i < slot:
            row = divide(i, hidden)
            unit = int32(i - row * hidden)
            at = int32(unit * rows + row)
            if row0 + row < batch:
                now = (length_of(a, row0 + row) & 1) * slot
                if word(a, H_FINAL) != 0:
                    to = address(a, H_FINAL, H_FINAL_DIRECTION, H_FINAL_ROW, d, row0 + row)
                    store_number(to + unit * item, get(states, now + at))
                if has_c and word(a, C_FINAL) != 0:
                    to = address(a, C_FINAL, C_FINAL_DIRECTION, C_FINAL_ROW, d, row0 + row)
                    store_number(to + unit * item, get(states, of_c * slot + at))
            i = int32(i + threads)
        if word(a, INDICES) != 0:
            for row in range(row0, min(row0 + rows, batch)):
                to = address(a, Y, Y_DIRECTION, Y_ROW, d, row)
                for time in range(length_of(a, row), seq):
                    unit = t
                    while unit < hidden:
                        store_number(to + time * word(a, Y_TIME) + unit * item, number(0))
                        unit = int32(unit + threads)

    return Ends(register_jitable(begin), register_jitable(finish))


@makes(RecurrentEnd)
def recurrent_end(last: bool, stages: tuple[Stage, ...], rows: int, threads: int, dtype: str) -> Code:
    ends = ends_of(stages, rows, threads, dtype)
    act = ends.finish if last else ends.begin

    def recurrent_end(a):
        states = pointer_to(word(a, SCRATCH) + block() * word(a, SCRATCH_BYTES))
        part_of_grid, groups = int32(block()), int32(word(a, GROUPS))
        d = divide(part_of_grid, groups)
        act(a, states, d, int32((part_of_grid - d * groups) * rows))

    return Code(recurrent_end, threads)

"""A recurrent layer through time: a block for a direction and a few rows of the batch.

A block reads all weights of its direction in each step, from the level-2 cache, and multiplies them with the states of all its
rows. Rows are independent of each other, so no block waits for another one. What that leaves unused: a layer with few rows
keeps few multiprocessors busy, and each fetches all weights again. A persistent version would spread the units of a
direction over the grid, so that each block keeps its part of the weights in shared memory and registers for the whole
sequence. Its blocks would have to exchange the state at each stage: all of them resident at once (a cooperative launch, or a
cluster of up to 16 blocks whose shared memory the others can read), a barrier of the whole grid for each stage (a counter in
global memory: fence, atomic add, wait with volatile reads), and loads of the state that do not come from the level-1 cache.
"""

from __future__ import annotations

from numba import cuda
from numba.cuda.extending import register_jitable
from numba.cuda.types import int32, int64

from graphc.backends.cuda.codegen.device import load, register, store, word
from graphc.backends.cuda.codegen.guarded import divide
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.recurrent.recurrent_block import (
    RECURRENT,
    SHARED_BYTES,
    SLICES,
    Recurrent,
    slot_count,
    slots_of,
)
from graphc.backends.cuda.recurrent.stage_kernels import address, stage_of
from graphc.backends.cuda.recurrent.state_kernels import accessors, pointer_of, pointer_to
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


@makes(Recurrent)
def recurrent(
    directions: tuple[tuple[Stage, ...], ...], gates: int, rows: int, threads: int, shared: bool, dtype: str
) -> Code:
    stages = directions[0]
    slots, count = slots_of(stages), slot_count(stages)
    has_c, of_c, two = "c" in slots, slots.get("c", 0), len(stages) > 1
    advance = stage_of(directions, 0, gates, rows, threads, shared, dtype)
    conclude = stage_of(directions, 1, gates, rows, threads, shared, dtype) if two else None
    kind = dtype_from_name(dtype)
    wide, item = summed(kind), kind.itemsize
    number, load_number, store_number = register(wide), load(dtype), store(dtype)
    get, put = accessors(wide)
    each = -(-rows // SLICES)

    def recurrent(a):
        if shared:
            states = pointer_of(cuda.shared.array(0, number, alignment=16))
        else:
            states = pointer_to(word(a, SCRATCH) + block() * word(a, SCRATCH_BYTES))
        t, part_of_grid, groups = int32(thread()), int32(block()), int32(word(a, GROUPS))
        seq, batch, hidden = int32(word(a, SEQ)), int32(word(a, BATCH)), int32(word(a, HIDDEN))
        d = divide(part_of_grid, groups)
        row0 = int32((part_of_grid - d * groups) * rows)

        # this thread's rows, and all of the block's
        lengths = cuda.local.array(each, int32)
        part = int32((t >> 3) & (SLICES - 1))
        for i in range(each):
            lengths[i] = 0
            if SLICES * i + part < rows:
                lengths[i] = length_of(a, row0 + SLICES * i + part)
        steps = int32(0)
        for j in range(rows):
            steps = max(steps, length_of(a, row0 + j))
        if t == 0 and d == 0 and word(a, INDICES) != 0:
            for row in range(row0, min(row0 + rows, batch)):
                given = position_at(a, int64(row))
                if given < 0 or given > seq:
                    report(a, a + REPORT, int64(row))

        # initial states, and zeros
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
        cuda.syncthreads()

        step = int32(0)
        while step < steps:
            advance(a, states, lengths, step, d, row0)
            cuda.syncthreads()
            if two:
                conclude(a, states, lengths, step, d, row0)
                cuda.syncthreads()
            step = int32(step + 1)

        # final states; zeros behind the end of a sequence
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

    return Code(recurrent, threads, SHARED_BYTES if shared else 0)

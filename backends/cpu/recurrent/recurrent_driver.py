"""Recurrent layers: the loop over time, and the packing of weights that are computed at run time.

A layer's hidden units are cut into panels. Each thread begins with a direction of its own, if there is one. The panels of a
stage are shared by who is there: a thread takes a fair share from its end, whose weights its cache holds, then what nobody
else has taken. The next stage begins when all panels are done: it multiplies the whole state.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from graphc.backends.cpu.codegen.intrinsics import (
    FUTEX_WAIT_PRIVATE,
    FUTEX_WAKE_PRIVATE,
    STEP,
    as_block,
    atomic_add,
    atomic_load,
    atomic_store,
    block_address,
    call3,
    copy_bytes,
    fill_bytes,
    futex,
    load_f32,
    load_i64,
    pause,
    store_f32,
    store_i64,
)
from graphc.backends.cpu.executor.executor_driver import EVERYONE
from graphc.backends.cpu.kernel import driver
from graphc.backends.cpu.recurrent.recurrent_block import (
    BLOCK_BYTES,
    CELL_STAGE,
    CELL_STREAM,
    FINISHED,
    HEAD_BYTES,
    PACK_COLUMNS,
    RECURRENT,
    SLEEPERS,
    STAGE,
    STEPS,
    STREAM,
    TAKEN,
    TILES,
    PackColumns,
    Recurrent,
    RecurrentStart,
)
from graphc.backends.cpu.sizes import FLOAT_BYTES
from graphc.backends.cpu.verbs.items_njit import INT64_BYTES, load_integer

DIRECTIONS, SHARED, SPINS, SCRATCH, SCRATCH_STRIDE = RECURRENT["directions shared spins scratch scratch_stride"]
HEAD, DIRECTION = RECURRENT.size, RECURRENT.record_size
# of a direction
CLEAR, CLEAR_BYTES, SEQ, BATCH, HIDDEN, MR = RECURRENT.in_record("clear clear_bytes seq batch hidden mr")
REVERSE, LENS, LENS_ITEM, LANE_BYTES, DOUBLE_BUFFER = RECURRENT.in_record(
    "reverse lens lens_item lane_bytes double_buffer"
)
H, C, DEPTH_BLOCKS, Y, Y_TIME, Y_ROW = RECURRENT.in_record("h c depth_blocks y y_time y_row")
H_INITIAL, C_INITIAL, INITIAL_ROW = RECURRENT.in_record("h_initial c_initial initial_row")
H_FINAL, C_FINAL, H_FINAL_ROW, C_FINAL_ROW = RECURRENT.in_record("h_final c_final h_final_row c_final_row")
STAGES, STAGE_RECORDS = RECURRENT.in_record("stages stage_records")
STAGE_SIZE, STREAM_SIZE = STAGE.size, STREAM.size
MICRO, PANELS, SPAN, W, PANEL_BYTES, X, X_DOUBLE_BUFFER = STAGE["micro panels span w panel_bytes x x_double_buffer"]
RESULT, RESULT_DOUBLE_BUFFER, COUNT, STAGE_STREAMS = STAGE["result result_double_buffer count streams"]
BASE, BY_PANEL, BY_ROW, BY_TIME, BY_DOUBLE_BUFFER, BY_VECTOR = STREAM[
    "base by_panel by_row by_time by_double_buffer by_vector"
]
MICRO_BLOCKS, MICRO_ROWS, MICRO_STATE_BLOCK, MICRO_ROOM = CELL_STAGE["blocks rows state_block room"]
(MICRO_STREAMS,) = CELL_STAGE["streams"]
MICRO_STREAM = CELL_STREAM.size
MICRO_BASE, MICRO_ROW, MICRO_VECTOR = CELL_STREAM["base row vector"]
FRONT, BACK, COUNT_MASK = 1 << 16, 1, 0xFFFF


@njit(error_model="numpy")
def _given_length(c, row):
    return load_integer(c[LENS], row, c[LENS_ITEM] == INT64_BYTES)


@njit(error_model="numpy")
def _length(c, row):
    """Steps of one sequence of the batch, never more than there are."""
    return max(0, min(_given_length(c, row), c[SEQ])) if c[LENS] != 0 else c[SEQ]


@njit(error_model="numpy")
def _time(c, step, row):
    """Where in x and y a sequence is at a step: the reverse direction starts at the sequence's own end."""
    if c[REVERSE] == 0:
        return step
    last = _length(c, row) - 1
    return last - step if step <= last else step


@njit(error_model="numpy")
def _put(c, state, row, source):
    """One row of the batch into a state."""
    lane = c[LANE_BYTES]
    for at in range(0, c[HIDDEN] * FLOAT_BYTES, lane):
        copy_bytes(state + at * c[BATCH] + row * lane, source + at, min(lane, c[HIDDEN] * FLOAT_BYTES - at))


@njit(error_model="numpy")
def _take(c, to, state, row, first, last):
    """Units first … last - 1 of one row of a state. `first` begins a block."""
    lane = c[LANE_BYTES]
    for at in range(first * FLOAT_BYTES, last * FLOAT_BYTES, lane):
        copy_bytes(to + at, state + at * c[BATCH] + row * lane, min(lane, last * FLOAT_BYTES - at))


@driver(RecurrentStart)
def recurrent_start(target):
    """Clears barriers and states, puts the initial states in their places, and finds the longest sequence. The argument block is
    that of `recurrent`; with sequence lengths, the words of a step's check follow it."""

    def recurrent_start(a, tid, nth):
        check = HEAD + a[DIRECTIONS] * DIRECTION + 2 * tid
        for d in range(tid, a[DIRECTIONS], nth):
            c = as_block(block_address(a) + 8 * (HEAD + d * DIRECTION))
            fill_bytes(c[CLEAR], c[CLEAR_BYTES], 0)
            longest = 0
            for b in range(c[BATCH]):
                longest = max(longest, _length(c, b))
                if c[LENS] != 0 and a[check] == 0:
                    given = _given_length(c, b)
                    if given < 0 or given > c[SEQ]:
                        a[check] = 1 + b
                        a[check + 1] = given
                if c[H_INITIAL] != 0:
                    _put(c, c[H], b, c[H_INITIAL] + b * c[INITIAL_ROW])
                if c[C_INITIAL] != 0:
                    _put(c, c[C], b, c[C_INITIAL] + b * c[INITIAL_ROW])
            store_i64(c[CLEAR] + STEPS, longest)

    return recurrent_start, STEP


@njit(error_model="numpy")
def _gather(c, stream, step, panel, first, rows, to, nbytes):
    """A stream of the input's projection for some rows of the batch, each at its own time."""
    for b in range(first, first + rows):
        address = stream[BASE] + panel * stream[BY_PANEL] + b * stream[BY_ROW] + _time(c, step, b) * stream[BY_TIME]
        copy_bytes(to + (b - first) * nbytes, address, nbytes)


@njit(error_model="numpy")
def _point_streams(c, stage, step, panel, first, rows, block):
    """The micro-kernel's streams of a panel for some rows of the batch."""
    odd, span = step & 1, stage[SPAN]
    ragged = c[REVERSE] != 0 and c[LENS] != 0
    time = c[SEQ] - 1 - step if c[REVERSE] != 0 else step
    for j in range(stage[COUNT]):
        stream = as_block(block_address(stage) + 8 * (STAGE_STREAMS + j * STREAM_SIZE))
        row = stream[BY_ROW]
        if ragged and stream[BY_TIME] != 0:
            base, row = block + HEAD_BYTES + j * TILES * c[MR] * span, span
            _gather(c, stream, step, panel, first, rows, base, span)
        else:
            base = stream[BASE] + panel * stream[BY_PANEL] + first * row
            base += time * stream[BY_TIME] + odd * stream[BY_DOUBLE_BUFFER]
        place = MICRO_STREAMS + MICRO_STREAM * j
        store_i64(block + 8 * (place + MICRO_BASE), base)
        store_i64(block + 8 * (place + MICRO_ROW), row)
        store_i64(block + 8 * (place + MICRO_VECTOR), stream[BY_VECTOR])


@njit(error_model="numpy")
def _stage(c, stage, step, block, first, last):
    """Panels first … last - 1 of one stage of one step."""
    odd, batch, mr = step & 1, c[BATCH], c[MR]
    for number in range(first, last):
        panel = number
        if odd:  # begin with what was read last: it may still be in the cache
            panel = first + last - 1 - number
        for m0 in range(0, batch, TILES * mr):
            rows = max(mr, min(TILES * mr, batch - m0))
            m = min(m0, batch - rows)
            store_i64(block + 8 * MICRO_ROWS, rows)
            _point_streams(c, stage, step, panel, m, rows, block)
            x = stage[X] + odd * stage[X_DOUBLE_BUFFER] + m * c[LANE_BYTES]
            call3(stage[MICRO], block, x, stage[W] + panel * stage[PANEL_BYTES])


@njit(error_model="numpy")
def _emit_step(c, step, first, last):
    """Writes units first … last - 1 of a step's states to y; a sequence that has ended keeps its states and gives zeros."""
    if last <= first:
        return
    now, new, lane = (step & 1) * c[DOUBLE_BUFFER], (1 - (step & 1)) * c[DOUBLE_BUFFER], c[LANE_BYTES]
    for b in range(c[BATCH]):
        y = c[Y] + _time(c, step, b) * c[Y_TIME] + b * c[Y_ROW]
        if step < _length(c, b):
            _take(c, y, c[H] + new, b, first, last)
            continue
        fill_bytes(y + first * FLOAT_BYTES, (last - first) * FLOAT_BYTES, 0)
        for at in range(first * FLOAT_BYTES, last * FLOAT_BYTES, lane):
            place = at * c[BATCH] + b * lane
            copy_bytes(c[H] + new + place, c[H] + now + place, lane)
            if c[C] != 0:
                copy_bytes(c[C] + new + place, c[C] + now + place, lane)


@njit(error_model="numpy")
def _end(c, steps, first, last):
    """Units first … last - 1 of what is left when `steps` steps are done: zeros behind the longest sequence, the last states."""
    state = (steps & 1) * c[DOUBLE_BUFFER]
    for b in range(c[BATCH]):
        for time in range(steps, c[SEQ]):
            y = c[Y] + time * c[Y_TIME] + b * c[Y_ROW]
            fill_bytes(y + first * FLOAT_BYTES, (last - first) * FLOAT_BYTES, 0)
        if c[H_FINAL] != 0:
            _take(c, c[H_FINAL] + b * c[H_FINAL_ROW], c[H] + state, b, first, last)
        if c[C_FINAL] != 0:
            _take(c, c[C_FINAL] + b * c[C_FINAL_ROW], c[C] + state, b, first, last)


@njit(error_model="numpy")
def _panels(c, phase, steps, block, first, last):
    """Panels first … last - 1 of stage number `phase` of all steps, and what becomes of their results."""
    step = phase // c[STAGES]
    s = phase - step * c[STAGES]
    stage = as_block(block_address(c) + 8 * (STAGE_RECORDS + s * STAGE_SIZE))
    _stage(c, stage, step, block, first, last)
    units = stage[SPAN] // FLOAT_BYTES
    first, last = min(first * units, c[HIDDEN]), min(last * units, c[HIDDEN])
    if s == c[STAGES] - 1:
        if c[Y] != 0:
            _emit_step(c, step, first, last)
        if step == steps - 1:
            _end(c, steps, first, last)
    if last == c[HIDDEN] and last & 1 != 0:
        _clear_unit(c, stage[RESULT] + (step & 1) * stage[RESULT_DOUBLE_BUFFER], last)


@njit(error_model="numpy")
def _clear_unit(c, state, unit):
    """The unit behind the last one of a state, which the next product reads too: it must be a number."""
    lane, at = c[LANE_BYTES], unit * FLOAT_BYTES
    place = state + at // lane * lane * c[BATCH] + at % lane
    for b in range(c[BATCH]):
        store_f32(place + b * lane, np.float32(0))


@njit(error_model="numpy")
def _share(c, block, mine, threads, spins):
    """Takes panels until the sequence is done: in each stage a fair share at once, then one at a time what others leave.

    mine: FRONT or BACK, so that a thread keeps to panels that its cache holds.
    """
    control = c[CLEAR]
    steps = load_i64(control + STEPS)
    phases = steps * c[STAGES]
    begun, wanted = -1, 1  # the last stage that this thread has taken part in
    while True:
        taken = atomic_add(control + TAKEN, mine * wanted)
        phase, front, back = taken >> 32, (taken >> 16) & COUNT_MASK, taken & COUNT_MASK
        if phase >= phases:
            return
        panels = c[STAGE_RECORDS + phase % c[STAGES] * STAGE_SIZE + PANELS]
        count = min(wanted, panels - front - back)
        if count > 0:
            first = front if mine == FRONT else panels - back - count
            _panels(c, phase, steps, block, first, first + count)
            if atomic_add(control + FINISHED, count) == panels - count:
                atomic_store(control + FINISHED, 0)
                atomic_store(control + TAKEN, (phase + 1) << 32)
                if atomic_load(control + SLEEPERS) > 0:
                    futex(control + TAKEN + 4, FUTEX_WAKE_PRIVATE, EVERYONE)
        fair = (panels + threads - 1) // threads
        wanted = max(1, fair - count) if phase != begun else 1
        begun = phase
        if front + back + count >= panels:
            wanted = fair
            _wait(control, phase, spins)


@njit(error_model="numpy")
def _wait(control, phase, spins):
    """Spin, then sleep, until stage `phase` is done: its number is the upper half of TAKEN."""
    n = 0
    while atomic_load(control + TAKEN) >> 32 == phase:
        if n < spins:
            n += 1
            pause()
        else:
            atomic_add(control + SLEEPERS, 1)
            futex(control + TAKEN + 4, FUTEX_WAIT_PRIVATE, phase)  # returns at once where it is done by now
            atomic_add(control + SLEEPERS, -1)


@driver(Recurrent)
def recurrent(target):
    """Every step of every direction, as many as the longest sequence has. Runs after `recurrent_start`."""

    def recurrent(a, tid, nth):
        directions = a[DIRECTIONS]
        shared = a[SHARED] != 0 and nth > 1
        block = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        for i in range(directions):
            d = (tid + i) % directions
            c = as_block(block_address(a) + 8 * (HEAD + d * DIRECTION))
            store_i64(block + 8 * MICRO_BLOCKS, c[DEPTH_BLOCKS])
            store_i64(block + 8 * MICRO_STATE_BLOCK, c[BATCH] * c[LANE_BYTES])
            store_i64(block + 8 * MICRO_ROOM, block + BLOCK_BYTES)
            steps = load_i64(c[CLEAR] + STEPS)
            if steps == 0 and tid == 0:
                _end(c, 0, 0, c[HIDDEN])
            if shared:
                side = FRONT if tid // directions % 2 == 0 else BACK
                _share(c, block, side, max(1, nth // directions), a[SPINS])
            elif d % nth == tid:
                for phase in range(steps * c[STAGES]):
                    s = phase % c[STAGES]
                    _panels(c, phase, steps, block, 0, c[STAGE_RECORDS + s * STAGE_SIZE + PANELS])

    return recurrent, STEP


@driver(PackColumns)
def pack_columns(target):
    """Rows of a matrix become columns of panels: [panel][depth][columns of the panel], zero where there is no
    element. Rows are contiguous."""
    SOURCE, TO, ROWS, OTHERS, COLUMNS = PACK_COLUMNS["source to rows others columns"]
    LENGTH, STRIDE, WIDTH, DEPTH = PACK_COLUMNS["length stride width depth"]

    def pack_columns(a, tid, nth):
        source, stride, columns, width, depth = a[SOURCE], a[STRIDE], a[COLUMNS], a[WIDTH], a[DEPTH]
        for n in range(columns * tid // nth, columns * (tid + 1) // nth):
            panel = n // width
            start = panel * width
            wide = min(width, columns - start)
            row = load_i64(a[ROWS] + 8 * n)
            other = load_i64(a[OTHERS] + 8 * n) if a[OTHERS] != 0 else -1
            for k in range(depth):
                value = np.float32(0)
                if row >= 0 and k < a[LENGTH]:
                    value = load_f32(source + row * stride + k * FLOAT_BYTES)
                    if other >= 0:
                        value += load_f32(source + other * stride + k * FLOAT_BYTES)
                store_f32(a[TO] + (start * depth + k * wide + n - start) * FLOAT_BYTES, value)

    return pack_columns, STEP

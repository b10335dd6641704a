"""Recurrent layers: the loop over time, and the packing of weights that are computed at run time.

A layer's hidden units are cut into panels. Each thread begins with a direction of its own, if there is one. The panels of a
stage are shared by who is there: a thread takes the next that nobody has taken, so that a thread which the system has put
aside holds up the others by one panel at most. The next stage begins when all panels are done: it multiplies the whole state.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from backends.cpu.drivers.executor import CACHE_LINE, EVERYONE, wait_change
from backends.cpu.intrinsics import (
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
    load_i32,
    load_i64,
    pause,
    store_f32,
    store_i64,
)
from backends.cpu.toolchain import driver

# argument block: head, then a record a direction, which ends in MAX_STAGES records of stages, each with MAX_STREAMS records
# of streams. Strides in bytes. A *swing* is added on odd steps: from the first to the second of two buffers that the states
# of even and odd steps live in (results have it the other way round).
DIRECTIONS, SHARED, SPINS, SCRATCH, SCRATCH_STRIDE, HEAD = range(6)
# fmt: off
(CLEAR, CLEAR_BYTES, SEQ, BATCH, HIDDEN, MR, REVERSE, LENS, LENS_ITEM, ROW, SWING, H, C, PACKED, TILE_BYTES, DEPTH_BLOCKS,
 H_INITIAL, C_INITIAL, INITIAL_ROW, Y, Y_TIME, Y_ROW, H_FINAL, C_FINAL, H_FINAL_ROW, C_FINAL_ROW, STAGES,
 STAGE_RECORDS) = range(28)
(MICRO, PASS, PANELS, SPAN, W, PANEL_BYTES, X, X_SWING, RESULT, RESULT_SWING, TO, TO_SWING, COUNT,
 STREAM_RECORDS) = range(14)
# fmt: on
BASE, BY_PANEL, BY_ROW, BY_TIME, BY_SWING, STREAM = range(6)
MAX_STAGES, MAX_STREAMS = 2, 12
STAGE = STREAM_RECORDS + MAX_STREAMS * STREAM
DIRECTION = STAGE_RECORDS + MAX_STAGES * STAGE
# words of a direction, at the start of the memory that is cleared. TAKEN: stages done, then the panels of this stage that
# are taken from the front and from the back, as 32 + 16 + 16 bits
TAKEN, FINISHED, PHASE, SLEEPERS, CONTROL_BYTES = (CACHE_LINE * i for i in range(5))
FRONT, BACK, COUNT_MASK = 1 << 16, 1, 0xFFFF
BLOCK_BYTES = 256  # of the micro-kernel's argument block, at the start of a thread's scratch
TILES = 8  # of one call of the micro-kernel
ROOM_BYTES = TILES * 32 * 64  # for their accumulators, behind the block; then streams gathered row by row


@njit(error_model="numpy")
def _given_length(c, row):
    return load_i32(c[LENS] + 4 * row) if c[LENS_ITEM] == 4 else load_i64(c[LENS] + 8 * row)


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
def _pack(c, to, rows, first, last):
    """Units first … last - 1 of row-major states as [tile][unit][row of the tile]."""
    mr, batch = c[MR], c[BATCH]
    if last <= first:
        return
    for p in range((batch + mr - 1) // mr):
        tile = to + p * c[TILE_BYTES]
        source = rows + min(p * mr, batch - mr) * c[ROW]
        if mr == 1:
            copy_bytes(tile + first * 4, source + first * 4, (last - first) * 4)
            continue
        for m in range(mr):
            for k in range(first, last):
                store_f32(tile + (k * mr + m) * 4, load_f32(source + m * c[ROW] + k * 4))


@driver("recurrent_start")
def recurrent_start(target):
    """Clears barriers and states, and puts the initial states in their places. The argument block is that of `recurrent`;
    with sequence lengths, the words of a step's check follow it."""

    def recurrent_start(a, tid, nth):
        check = HEAD + a[DIRECTIONS] * DIRECTION + 2 * tid
        for d in range(tid, a[DIRECTIONS], nth):
            c = as_block(block_address(a) + 8 * (HEAD + d * DIRECTION))
            fill_bytes(c[CLEAR], c[CLEAR_BYTES], 0)
            for b in range(c[BATCH]):
                if c[LENS] != 0 and a[check] == 0:
                    given = _given_length(c, b)
                    if given < 0 or given > c[SEQ]:
                        a[check] = 1 + b
                        a[check + 1] = given
                if c[H_INITIAL] != 0:
                    copy_bytes(c[H] + b * c[ROW], c[H_INITIAL] + b * c[INITIAL_ROW], c[HIDDEN] * 4)
                if c[C_INITIAL] != 0:
                    copy_bytes(c[C] + b * c[ROW], c[C_INITIAL] + b * c[INITIAL_ROW], c[HIDDEN] * 4)
            _pack(c, c[PACKED], c[H], 0, c[HIDDEN])

    return recurrent_start, STEP


@njit(error_model="numpy")
def _gather(c, stream, step, panel, first, rows, to, nbytes):
    """A stream of the input's projection for some rows of the batch, each at its own time."""
    for b in range(first, first + rows):
        address = stream[BASE] + panel * stream[BY_PANEL] + b * stream[BY_ROW] + _time(c, step, b) * stream[BY_TIME]
        copy_bytes(to + (b - first) * nbytes, address, nbytes)


@njit(error_model="numpy")
def _stage(c, stage, step, block, first, last):
    """Panels first … last - 1 of one stage of one step."""
    odd, batch, mr, span = step & 1, c[BATCH], c[MR], stage[SPAN]
    ragged = c[REVERSE] != 0 and c[LENS] != 0
    time = c[SEQ] - 1 - step if c[REVERSE] != 0 else step
    store_i64(block + 8, stage[PASS])
    for panel in range(first, last):
        for m0 in range(0, batch, TILES * mr):
            rows = max(mr, min(TILES * mr, batch - m0))
            m = min(m0, batch - rows)
            store_i64(block + 16, rows)
            for j in range(stage[COUNT]):
                stream = as_block(block_address(stage) + 8 * (STREAM_RECORDS + j * STREAM))
                row = stream[BY_ROW]
                if ragged and stream[BY_TIME] != 0:
                    base, row = block + BLOCK_BYTES + ROOM_BYTES + j * TILES * mr * span, span
                    _gather(c, stream, step, panel, m, rows, base, span)
                else:
                    base = stream[BASE] + panel * stream[BY_PANEL] + m * row
                    base += time * stream[BY_TIME] + odd * stream[BY_SWING]
                store_i64(block + 40 + 16 * j, base)
                store_i64(block + 48 + 16 * j, row)
            x = stage[X] + odd * stage[X_SWING] + m0 // mr * c[TILE_BYTES]
            call3(stage[MICRO], block, x, stage[W] + panel * stage[PANEL_BYTES])


@njit(error_model="numpy")
def _emit_step(c, step, first, last):
    """Writes units first … last - 1 of a step's states to y; a sequence that has ended keeps its states and gives zeros."""
    if last <= first:
        return
    nbytes, at = (last - first) * 4, first * 4
    now, new = (step & 1) * c[SWING], (1 - (step & 1)) * c[SWING]
    for b in range(c[BATCH]):
        y = c[Y] + _time(c, step, b) * c[Y_TIME] + b * c[Y_ROW] + at
        row = b * c[ROW] + at
        if step < _length(c, b):
            copy_bytes(y, c[H] + new + row, nbytes)
        else:
            fill_bytes(y, nbytes, 0)
            copy_bytes(c[H] + new + row, c[H] + now + row, nbytes)
            if c[C] != 0:
                copy_bytes(c[C] + new + row, c[C] + now + row, nbytes)


@njit(error_model="numpy")
def _finals(c, first, last):
    """Units first … last - 1 of the states after the last step."""
    state, at, nbytes = (c[SEQ] & 1) * c[SWING], first * 4, (last - first) * 4
    for b in range(c[BATCH]):
        if c[H_FINAL] != 0:
            copy_bytes(c[H_FINAL] + b * c[H_FINAL_ROW] + at, c[H] + state + b * c[ROW] + at, nbytes)
        if c[C_FINAL] != 0:
            copy_bytes(c[C_FINAL] + b * c[C_FINAL_ROW] + at, c[C] + state + b * c[ROW] + at, nbytes)


@njit(error_model="numpy")
def _panels(c, phase, block, first, last):
    """Panels first … last - 1 of stage number `phase` of the whole sequence, and what becomes of their results."""
    step = phase // c[STAGES]
    s = phase - step * c[STAGES]
    stage = as_block(block_address(c) + 8 * (STAGE_RECORDS + s * STAGE))
    _stage(c, stage, step, block, first, last)
    units, odd = stage[SPAN] // 4, step & 1
    first, last = min(first * units, c[HIDDEN]), min(last * units, c[HIDDEN])
    if s == c[STAGES] - 1:
        _emit_step(c, step, first, last)
        if step == c[SEQ] - 1:
            _finals(c, first, last)
    _pack(c, stage[TO] + odd * stage[TO_SWING], stage[RESULT] + odd * stage[RESULT_SWING], first, last)


@njit(error_model="numpy")
def _share(c, block, mine, spins):
    """Takes panels until the sequence is done. mine: FRONT or BACK, so that a thread keeps to panels that its cache holds."""
    control, phases = c[CLEAR], c[SEQ] * c[STAGES]
    while True:
        taken = atomic_add(control + TAKEN, mine)
        phase, front, back = taken >> 32, (taken >> 16) & COUNT_MASK, taken & COUNT_MASK
        if phase >= phases:
            return
        panels = c[STAGE_RECORDS + phase % c[STAGES] * STAGE + PANELS]
        if front + back >= panels:
            wait_change(control + PHASE, phase, control + SLEEPERS, spins)
            while (
                atomic_load(control + TAKEN) >> 32 == phase
            ):  # a thread asks once a stage, or the counts would overflow
                pause()
            continue
        panel = front if mine == FRONT else panels - 1 - back
        _panels(c, phase, block, panel, panel + 1)
        if atomic_add(control + FINISHED, 1) == panels - 1:
            atomic_store(control + FINISHED, 0)
            atomic_store(control + PHASE, phase + 1)
            atomic_store(control + TAKEN, (phase + 1) << 32)  # from here on the next stage may end, and set PHASE
            if atomic_load(control + SLEEPERS) > 0:
                futex(control + PHASE, FUTEX_WAKE_PRIVATE, EVERYONE)


@driver("recurrent")
def recurrent(target):
    """Every step of every direction. Runs after `recurrent_start`."""

    def recurrent(a, tid, nth):
        directions = a[DIRECTIONS]
        shared = a[SHARED] != 0 and nth > 1
        block = a[SCRATCH] + tid * a[SCRATCH_STRIDE]
        for i in range(directions):
            d = (tid + i) % directions
            c = as_block(block_address(a) + 8 * (HEAD + d * DIRECTION))
            store_i64(block, c[DEPTH_BLOCKS])
            store_i64(block + 24, c[TILE_BYTES])
            store_i64(block + 32, block + BLOCK_BYTES)
            if c[SEQ] == 0 and tid == 0:
                _finals(c, 0, c[HIDDEN])
            if shared:
                _share(c, block, FRONT if tid // directions % 2 == 0 else BACK, a[SPINS])
            elif d % nth == tid:
                for phase in range(c[SEQ] * c[STAGES]):
                    s = phase % c[STAGES]
                    _panels(c, phase, block, 0, c[STAGE_RECORDS + s * STAGE + PANELS])

    return recurrent, STEP


@driver("pack_columns")
def pack_columns(target):
    """Rows of a matrix become columns of panels: [panel][depth][columns of the panel], zero where there is no element.

    Block: source, to, number of each column's row (int64, -1: none), the same of a second row that is added or 0, columns,
    length of a row, stride of a row, columns of a panel (the last may have fewer), depth. Rows are contiguous.
    """

    def pack_columns(a, tid, nth):
        columns, length, width, depth = a[4], a[5], a[7], a[8]
        for n in range(columns * tid // nth, columns * (tid + 1) // nth):
            panel = n // width
            start = panel * width
            wide = min(width, columns - start)
            row = load_i64(a[2] + 8 * n)
            other = load_i64(a[3] + 8 * n) if a[3] != 0 else -1
            for k in range(depth):
                value = np.float32(0)
                if row >= 0 and k < length:
                    value = load_f32(a[0] + row * a[6] + k * 4)
                    if other >= 0:
                        value += load_f32(a[0] + other * a[6] + k * 4)
                store_f32(a[1] + (start * depth + k * wide + n - start) * 4, value)

    return pack_columns, STEP

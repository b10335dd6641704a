"""A recurrent layer through time as one grid, all of whose blocks run at once: see persistent_block.py.

A thread keeps its share of the weights in registers for all steps. Lane j of a unit keeps that unit's states of row j, too; where
tensor cores multiply, of rows j and j + 8.
In each stage of a step the block waits for the state that it multiplies, as tagged words, and puts it into shared memory; while it
multiplies, the next one may already come, into the other half. The projection of the next step's input is read before that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import cuda
from numba.cuda.extending import register_jitable
from numba.cuda.types import int32, int64

from graphc.backends.cuda.codegen.device import load, register, store, word
from graphc.backends.cuda.codegen.guarded import divide
from graphc.backends.cuda.codegen.ptx import pause
from graphc.backends.cuda.codegen.tagged import PAIR, WORD, keep, keep_halves, publish, publish_halves, take, words_of
from graphc.backends.cuda.codegen.threads import block, thread, thread_number
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.recurrent.cell_kernels import MOST_GATES, PEEPHOLES
from graphc.backends.cuda.recurrent.ends_kernels import length_of, report_lengths
from graphc.backends.cuda.recurrent.held_kernels import held_cell, held_inputs, held_products, held_weights
from graphc.backends.cuda.recurrent.persistent_block import (
    CHUNK,
    FIRST_TAG,
    PERSISTENT,
    WARP,
    Layout,
    Persistent,
    PersistentBegin,
    layout_of,
)
from graphc.backends.cuda.recurrent.recurrent_block import STATES
from graphc.backends.cuda.recurrent.stage_kernels import address
from graphc.backends.cuda.recurrent.state_kernels import accessors, moved, pointer_of
from graphc.backends.cuda.recurrent.tensor_kernels import tensor_products, tensor_weights, words_of_weights
from graphc.lower.recurrent_cells import Stage
from graphc.types import dtype_from_name

GROUPS, SEQ, BATCH, HIDDEN, REVERSE = PERSISTENT["groups seq batch hidden reverse"]
X, X_DIRECTION, X_ROW, X_TIME, R, R_DIRECTION, PITCH = PERSISTENT["x x_direction x_row x_time r r_direction pitch"]
B, P = PERSISTENT["b p"]
H, H_DIRECTION, H_ROW, C, C_DIRECTION, C_ROW = PERSISTENT["h h_direction h_row c c_direction c_row"]
Y, Y_DIRECTION, Y_ROW, Y_TIME = PERSISTENT["y y_direction y_row y_time"]
H_FINAL, H_FINAL_DIRECTION, H_FINAL_ROW = PERSISTENT["h_final h_final_direction h_final_row"]
C_FINAL, C_FINAL_DIRECTION, C_FINAL_ROW = PERSISTENT["c_final c_final_direction c_final_row"]
SCRATCH, TEAMS, PARTS, TEAM_BYTES = PERSISTENT["scratch teams parts team_bytes"]
REPORT = 8 * PERSISTENT.size


@makes(PersistentBegin)
def recurrent_persistent_begin(
    slots: int, rows: int, lanes: int, warps: int, span: int, tensor: bool, dtype: str
) -> Code:
    kind = dtype_from_name(dtype)
    wide, item = summed(kind), kind.itemsize
    layout = layout_of(rows, lanes, warps, span, tensor, wide)
    tile, pitch = layout.tile, layout.pitch
    number, load_number, put = register(wide), load(dtype), publish_halves(kind) if tensor else publish(wide)
    nbytes = WORD * words_of(wide)

    def recurrent_persistent_begin(a):
        i = int32(thread_number(THREADS))
        if i == 0:
            report_lengths(a, a + REPORT, int32(0), int32(word(a, BATCH)))
        slot = divide(i, tile)
        team = divide(slot, slots)
        groups = int32(word(a, GROUPS))
        d = divide(team, groups)
        if team < word(a, TEAMS):
            at = int32(i - slot * tile)
            row = divide(at, pitch)
            unit = int32(at - row * pitch)
            slot = int32(slot - team * slots)
            value, tag = number(0), int32(0)
            if slot == 0:
                tag = FIRST_TAG
                row_number = int32((team - d * groups) * rows + row)
                if row < rows and row_number < word(a, BATCH) and unit < word(a, HIDDEN) and word(a, H) != 0:
                    value = number(load_number(address(a, H, H_DIRECTION, H_ROW, d, row_number) + unit * item))
            to = word(a, SCRATCH) + team * word(a, TEAM_BYTES) + (slot * tile + at) * nbytes
            put(to, value, int32(tag))

    return Code(recurrent_persistent_begin)


def _products(at: int, count: int, layout: Layout, wide: np.dtype) -> Callable[..., None]:
    """multiply(totals, weights, tile, lane): the sums of each gate, of the row that the lane has."""
    rows, pitch, chunk = layout.rows, layout.pitch, min(layout.rows, CHUNK)
    products = held_products(at, count, chunk, layout, wide)

    def multiply(totals, weights, tile, lane):
        row = int32(0)
        while row < rows:
            products(totals, weights, tile, int64(row) * pitch, lane, int32(row <= lane < row + chunk))
            row = int32(row + chunk)

    made: Callable[..., None] = register_jitable(multiply)
    return made


@makes(Persistent)
def recurrent_persistent(
    directions: tuple[tuple[Stage, ...], ...],
    gates: int,
    rows: int,
    lanes: int,
    warps: int,
    span: int,
    width: int,
    tensor: bool,
    dtype: str,
) -> Code:
    stages, kind = directions[0], dtype_from_name(dtype)
    two, of_stages = len(stages) > 1, [stage.gates for stage in stages]
    wide, item = summed(kind), kind.itemsize
    layout = layout_of(rows, lanes, warps, span, tensor, wide)
    number, load_number, store_number = register(wide), load(dtype), store(dtype)
    get, put = accessors(wide)
    threads, units, ahead, half_bytes = layout.threads, layout.units, layout.ahead, layout.half
    pitch, slot_bytes, item_words, pair_bytes = layout.pitch, layout.slot, words_of(wide), PAIR * WORD
    pairs, got_count = layout.tile * item_words // PAIR, PAIR * ahead
    lines = threads, pitch * item_words, rows * pitch * item_words
    taken, one_taken, probes = take(ahead, *lines), take(1, *lines), layout.probes

    # weights of the first stage's gates, then of the second's
    if tensor:
        weights_type, weights_count = int32, words_of_weights(of_stages, layout)
        hold = tensor_weights(of_stages, layout)
        multiply_first = tensor_products(0, len(of_stages[0]), layout, dtype, MOST_GATES)
        second = words_of_weights(of_stages[:1], layout)
        multiply_second = tensor_products(second, len(of_stages[-1]), layout, dtype, MOST_GATES)
        give, kept = publish_halves(kind), keep_halves(ahead, threads, pitch, layout.line, layout.plane)
    else:
        of_lane = span * layout.vector
        weights_type, weights_count = number, sum(map(len, of_stages)) * of_lane
        hold = held_weights([g for of in of_stages for g in of], layout, width, kind, wide)
        multiply_first = _products(0, len(of_stages[0]), layout, wide)
        multiply_second = _products(len(of_stages[0]) * of_lane, len(of_stages[-1]), layout, wide)
        give, kept = publish(wide), keep(ahead, threads)

    # what a thread has of each row
    names = [n for n in STATES if any(n == name for stage in stages for name, _ in stage.results)]
    names_count, h_at = len(names), names.index("h")
    c_at = names.index("c") if "c" in names else -1
    wanted = sorted({int(n[1:]) for stage in stages for n in (*stage.starts, *stage.operands) if n[0] == "x"})
    biases = {int(n[1:]) for stage in stages for n in stage.starts if n[0] == "b"}
    assert len(biases) <= 1
    has_bias, bias, peepholes_count = bool(biases), max(biases, default=0), len(PEEPHOLES)
    fetch, wide_bytes = held_inputs(wanted, wide), wide.itemsize
    first_cell = held_cell(directions, 0, names, wide)
    last_cell = held_cell(directions, len(stages) - 1, names, wide)
    pair_of_rows = layout.each > 1
    states_count, gates_count = layout.each * names_count, layout.each * MOST_GATES
    next_states, next_gates = names_count * wide_bytes, MOST_GATES * wide_bytes

    @register_jitable
    def wait(got, to, source, t, used, tag):
        """A whole state of the team into shared memory, as soon as it is there."""
        pair = t
        if probes:  # where all that is read again and again would keep L2 from those who write
            while one_taken(got, source + int64(pair) * pair_bytes, pair, used, tag) == 0:
                pause()
        while pair < pairs:
            while taken(got, source + int64(pair) * pair_bytes, pair, used, tag) == 0:
                pause()
            kept(got, to, pair)
            pair = int32(pair + threads * ahead)

    @register_jitable
    def begin(a, mine, d, row, unit):
        """The first states of a row of the batch."""
        if word(a, H) != 0:
            put(mine, h_at, load_number(address(a, H, H_DIRECTION, H_ROW, d, row) + unit * item))
        if c_at >= 0 and word(a, C) != 0:
            put(mine, c_at, load_number(address(a, C, C_DIRECTION, C_ROW, d, row) + unit * item))

    @register_jitable
    def hand(mine, totals, xs, bs, ps, d, goes_on, gives, to, tag):
        """What the first stage makes for the second."""
        handed = number(0)
        if goes_on:
            handed = first_cell(mine, totals, xs, bs, ps, d)
        if gives:
            give(to, handed, tag)

    @register_jitable
    def advance(mine, totals, xs, bs, ps, d, goes_on, gives, to, tag):
        """The next state, if the row's sequence goes on; the others wait for all."""
        if goes_on:
            last_cell(mine, totals, xs, bs, ps, d)
        if gives:
            give(to, get(mine, h_at), tag)

    @register_jitable
    def after(mine, xs, x, y, x_time, y_time, backwards, step, length, hidden):
        """The result of a step; the input of the next."""
        if step < length:
            time = int32(length - 1 - step) if backwards else step
            store_number(y + time * y_time, get(mine, h_at))
            if step + 1 < length:
                fetch(xs, x + (time - 1 if backwards else time + 1) * x_time, hidden)

    @register_jitable
    def finish(a, mine, d, row, unit, y, y_time, length):
        """The last states; zeros behind the end of the sequence."""
        if word(a, H_FINAL) != 0:
            to = address(a, H_FINAL, H_FINAL_DIRECTION, H_FINAL_ROW, d, row)
            store_number(to + unit * item, get(mine, h_at))
        if c_at >= 0 and word(a, C_FINAL) != 0:
            to = address(a, C_FINAL, C_FINAL_DIRECTION, C_FINAL_ROW, d, row)
            store_number(to + unit * item, get(mine, c_at))
        for time in range(length, word(a, SEQ)):
            store_number(y + time * y_time, number(0))

    def recurrent_persistent(a):
        tiles = pointer_of(cuda.shared.array(0, number, alignment=16))
        weights = pointer_of(cuda.local.array(weights_count, weights_type))
        mine = pointer_of(cuda.local.array(states_count, number))
        totals = pointer_of(cuda.local.array(gates_count, number))
        xs = pointer_of(cuda.local.array(gates_count, number))
        bs = pointer_of(cuda.local.array(MOST_GATES, number))
        ps = pointer_of(cuda.local.array(peepholes_count, number))
        got = pointer_of(cuda.local.array(got_count, int32))
        mine_b, totals_b, xs_b = moved(mine, next_states), moved(totals, next_gates), moved(xs, next_gates)

        t, hidden = int32(thread()), int32(word(a, HIDDEN))
        parts, groups = int32(word(a, PARTS)), int32(word(a, GROUPS))
        team = divide(int32(block()), parts)
        unit0 = int32((int32(block()) - team * parts) * units)
        d = divide(team, groups)
        row0 = int32((team - d * groups) * rows)
        if tensor:
            lane = int32(t & (WARP - 1))
            unit0 = int32(unit0 + (t >> 5) * (WARP // lanes))
            unit, multiplied, at = int32(unit0 + (lane & 3)), int32(unit0 + (lane >> 3)), int32(lane >> 2)
        else:
            lane = int32(t & (lanes - 1))
            unit, at = int32(unit0 + divide(t, lanes)), lane
            multiplied = unit
        at_b = int32(at + lanes)
        exists, batch = unit < hidden, word(a, BATCH)
        unit, multiplied = min(unit, int32(hidden - 1)), min(multiplied, int32(hidden - 1))
        gives, row, row_b = exists and at < rows, int32(row0 + at), int32(row0 + at_b)
        held, held_b = gives and row < batch, pair_of_rows and exists and row_b < batch
        length = length_of(a, row) if held else int32(0)
        length_b = length_of(a, row_b) if held_b else int32(0)
        steps = int32(0)
        for j in range(rows):
            steps = max(steps, length_of(a, row0 + j))

        # what does not change, and the first states
        r = word(a, R) + d * word(a, R_DIRECTION) + multiplied * word(a, PITCH)
        hold(weights, r, word(a, PITCH) * hidden, lane, hidden)
        for i in range(states_count):
            put(mine, i, number(0))
        for i in range(gates_count):
            put(totals, i, number(0))
            put(xs, i, number(0))
        for i in range(peepholes_count):
            put(ps, i, number(0))
            if word(a, P) != 0:
                put(ps, i, load_number(word(a, P) + ((d * peepholes_count + i) * hidden + unit) * item))
        if has_bias:
            put(bs, bias, load_number(word(a, B) + (((2 * d + 1) * gates + bias) * hidden + unit) * item))
        backwards, x_time, y_time = word(a, REVERSE + d) != 0, word(a, X_TIME), word(a, Y_TIME)
        x = address(a, X, X_DIRECTION, X_ROW, d, row) + unit * wide_bytes
        y = address(a, Y, Y_DIRECTION, Y_ROW, d, row) + unit * item
        x_b, y_b = x + lanes * word(a, X_ROW), y + lanes * word(a, Y_ROW)
        if held:
            begin(a, mine, d, row, unit)
            if length > 0:
                fetch(xs, x + (length - 1 if backwards else 0) * x_time, hidden)
        if pair_of_rows and held_b:
            begin(a, mine_b, d, row_b, unit)
            if length_b > 0:
                fetch(xs_b, x_b + (length_b - 1 if backwards else 0) * x_time, hidden)

        scratch = word(a, SCRATCH) + team * word(a, TEAM_BYTES)
        own = (int64(at) * pitch + unit) * item_words * WORD  # in a slot
        own_b = own + lanes * pitch * item_words * WORD
        used = int32(hidden * item_words)
        here, there = tiles, moved(tiles, half_bytes)  # what is multiplied, what may come meanwhile

        step = int32(0)
        while step < steps:
            tag = int32(step + FIRST_TAG)
            wait(got, here, scratch + (step & 1) * slot_bytes, t, used, tag)
            cuda.syncthreads()
            multiply_first(totals, weights, here, lane)
            here, there = there, here
            if two:
                to = scratch + 2 * slot_bytes
                hand(mine, totals, xs, bs, ps, d, step < length, gives, to + own, tag)
                if pair_of_rows:
                    hand(mine_b, totals_b, xs_b, bs, ps, d, step < length_b, gives, to + own_b, tag)
                wait(got, here, to, t, used, tag)
                cuda.syncthreads()
                multiply_second(totals, weights, here, lane)
                here, there = there, here
            to, tag = scratch + ((step + 1) & 1) * slot_bytes, int32(tag + 1)
            advance(mine, totals, xs, bs, ps, d, step < length, gives, to + own, tag)
            if pair_of_rows:
                advance(mine_b, totals_b, xs_b, bs, ps, d, step < length_b, gives, to + own_b, tag)
            after(mine, xs, x, y, x_time, y_time, backwards, step, length, hidden)
            if pair_of_rows:
                after(mine_b, xs_b, x_b, y_b, x_time, y_time, backwards, step, length_b, hidden)
            step = int32(step + 1)

        if held:
            finish(a, mine, d, row, unit, y, y_time, length)
        if pair_of_rows and held_b:
            finish(a, mine_b, d, row_b, unit, y_b, y_time, length_b)

    return Code(recurrent_persistent, threads, layout.shared, blocks=1, together=True)

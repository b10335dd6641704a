"""A stage of one step of a recurrent layer, spread over the grid: a launch for each.

A block has 8 units, whose weights are 32 bytes of a row, and rows of the batch; its warps share the sum over the units of the
state, lane >> 3 of a warp a slice of it. What warps have summed comes together in shared memory, always in one order; then a
thread each takes a unit and a row through the equations. The weights come from the level-2 cache in every step, each once for the
whole grid and group of rows: that takes less time than the launches, which the graph of the program puts one behind the other.
"""

from __future__ import annotations

from numba import cuda
from numba.cuda.types import int32

from graphc.backends.cuda.codegen.device import register, store, word
from graphc.backends.cuda.codegen.guarded import divide
from graphc.backends.cuda.codegen.threads import block, thread
from graphc.backends.cuda.kernel import Code, makes
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.recurrent.cell_kernels import MOST_GATES, cell
from graphc.backends.cuda.recurrent.ends_kernels import length_of
from graphc.backends.cuda.recurrent.recurrent_block import NEIGHBOURS, SLICES, STEP, RecurrentStep, slots_of
from graphc.backends.cuda.recurrent.stage_kernels import address, products_of
from graphc.backends.cuda.recurrent.state_kernels import pointer_to
from graphc.backends.cuda.verbs.bits_kernels import ALL
from graphc.lower.recurrent_cells import Stage
from graphc.types import dtype_from_name

GROUPS, HIDDEN, REVERSE, SCRATCH, SCRATCH_BYTES = STEP["groups hidden reverse scratch scratch_bytes"]
X, X_DIRECTION, X_ROW, X_TIME, R, R_DIRECTION, PITCH = STEP["x x_direction x_row x_time r r_direction pitch"]
Y, Y_DIRECTION, Y_ROW, Y_TIME, UNIT_GROUPS, STEP_NUMBER = STEP["y y_direction y_row y_time unit_groups step"]
WARP = 32


@makes(RecurrentStep)
def recurrent_step(
    directions: tuple[tuple[Stage, ...], ...], stage: int, gates: int, rows: int, threads: int, dtype: str
) -> Code:
    of, slots = directions[0][stage], slots_of(directions[0])
    count, first = len(of.gates), of.gates[0]
    hole = next((g for g in range(count) if of.gates[g] != first + g), count)  # behind it numbers are one larger
    multiplied, last = slots[of.state] if of.state != "h" else -1, stage == len(directions[0]) - 1
    kind = dtype_from_name(dtype)
    wide, item = summed(kind), kind.itemsize
    number, store_number = register(wide), store(dtype)
    finish = cell(directions, stage, gates, rows, kind, wide)
    sums_count, warps = count * rows, threads // WARP
    ahead = 4 if sums_count * wide.itemsize // 4 < 8 else 2
    slices = SLICES * warps
    add_products = products_of(count, rows, hole, ahead, slices, dtype)
    shared_count = warps * sums_count * NEIGHBOURS

    def recurrent_step(a):
        parts = cuda.shared.array(shared_count, number)
        sums = cuda.local.array(sums_count, number)
        totals = cuda.local.array(MOST_GATES, number)
        t, hidden, unit_groups = int32(thread()), int32(word(a, HIDDEN)), int32(word(a, UNIT_GROUPS))
        holder = divide(int32(block()), unit_groups)  # of states: a direction and a group of rows
        unit0 = int32((int32(block()) - holder * unit_groups) * NEIGHBOURS)
        groups = int32(word(a, GROUPS))
        d = divide(holder, groups)
        row0 = int32((holder - d * groups) * rows)
        states = pointer_to(word(a, SCRATCH) + holder * word(a, SCRATCH_BYTES))
        step = int32(word(a, STEP_NUMBER))
        slot = int32(hidden * rows)
        now = int32((step & 1) * slot)
        state = now if multiplied < 0 else int32(multiplied * slot)

        part, pitch = int32(t >> 3), word(a, PITCH)
        r_row = gates * pitch
        at = word(a, R) + d * word(a, R_DIRECTION) + first * pitch + part * r_row
        at += min(unit0 + (t & (NEIGHBOURS - 1)), hidden - 1) * item
        r_next = slices * r_row
        for i in range(sums_count):
            sums[i] = number(0)
        add_products(sums, states, state, at, part, hidden, r_next, pitch)
        warp, lane = int32(t >> 5), int32(t & (WARP - 1))
        for i in range(sums_count):
            total = sums[i]
            total = number(total + cuda.shfl_xor_sync(ALL, total, NEIGHBOURS))
            total = number(total + cuda.shfl_xor_sync(ALL, total, 2 * NEIGHBOURS))
            if lane < NEIGHBOURS:
                parts[(warp * sums_count + i) * NEIGHBOURS + lane] = total
        cuda.syncthreads()

        row, mine = int32(t >> 3), int32(t & (NEIGHBOURS - 1))
        unit = int32(unit0 + mine)
        if row < rows and unit < hidden:
            length = length_of(a, row0 + row)
            if step < length:
                for g in range(MOST_GATES):
                    totals[g] = number(0)
                for g in range(count):
                    total = number(0)
                    for w in range(warps):
                        total = number(total + parts[(w * sums_count + g * rows + row) * NEIGHBOURS + mine])
                    totals[g] = total
                time = int32(length - 1 - step) if word(a, REVERSE + d) != 0 else step
                x = address(a, X, X_DIRECTION, X_ROW, d, row0 + row) + time * word(a, X_TIME)
                h = finish(a, states, x, d, unit, row, now, totals[0], totals[1], totals[2], totals[3])
                if last:
                    y = address(a, Y, Y_DIRECTION, Y_ROW, d, row0 + row) + time * word(a, Y_TIME)
                    store_number(y + unit * item, h)

    return Code(recurrent_step, threads, blocks=1)

"""A stage of a step: the products of all gates with the state, then the equations.

A warp has 8 units, whose weights are 32 bytes of a row, by 4 slices of the sum: lane & 7 and lane >> 3. The sums of slices
come together by shuffles, then slice s has rows s, s + 4, … of the batch. States are [unit][row], so that a thread reads its
rows of a unit side by side, and the slices read what follows each other. A warp writes 32 neighbours where a block has 4 rows:
no bank twice (with 8 rows, each bank twice).
"""

from __future__ import annotations

from collections.abc import Callable

from numba import cuda
from numba.cuda.extending import register_jitable
from numba.cuda.types import int32

from graphc.backends.cuda.codegen.device import load, register, store, word
from graphc.backends.cuda.codegen.threads import thread
from graphc.backends.cuda.lower.epilogue import summed
from graphc.backends.cuda.recurrent.cell_kernels import MOST_GATES, cell
from graphc.backends.cuda.recurrent.recurrent_block import NEIGHBOURS, RECURRENT, SLICES, slots_of
from graphc.backends.cuda.recurrent.state_kernels import accessors, pick_of
from graphc.backends.cuda.verbs.bits_kernels import ALL
from graphc.lower.recurrent_cells import Stage
from graphc.types import dtype_from_name

HIDDEN, REVERSE = RECURRENT["hidden reverse"]
X, X_DIRECTION, X_ROW, X_TIME, R, R_DIRECTION, PITCH = RECURRENT["x x_direction x_row x_time r r_direction pitch"]
Y, Y_DIRECTION, Y_ROW, Y_TIME = RECURRENT["y y_direction y_row y_time"]


@register_jitable
def address(a, base, direction, row, d, number):
    """Of a row of an operand. base, direction, row: words; d, number: of the direction, of the row."""
    return word(a, base) + d * word(a, direction) + number * word(a, row)


def products_of(count: int, rows: int, hole: int, ahead: int, slices: int, dtype: str) -> Callable[..., None]:
    """add_products(sums, states, state, at, k, hidden, step, pitch): sums[g * rows + j] += what gate g's weights make of row j of the
    state, from its unit k on, `slices` further each time. at: the address of the first weight; step: bytes from one to the next.

    `ahead` weights of each gate are read before they are used: they come from far away. hole: a gate that is left out.
    """
    kind = dtype_from_name(dtype)
    wide = summed(kind)
    number, load_number, (get, _) = register(wide), load(dtype), accessors(wide)
    weights_count = ahead * count

    def add_products(sums, states, state, at, k, hidden, step, pitch):
        before = cuda.local.array(rows, number)
        weights = cuda.local.array(weights_count, number)
        while k + (ahead - 1) * slices < hidden:
            for i in range(ahead):
                for g in range(count):
                    weights[i * count + g] = load_number(at + (g + (1 if g >= hole else 0)) * pitch)
                at += step
            for i in range(ahead):
                for j in range(rows):
                    before[j] = get(states, state + (k + i * slices) * rows + j)
                for g in range(count):
                    for j in range(rows):
                        sums[g * rows + j] = number(sums[g * rows + j] + weights[i * count + g] * before[j])
            k = int32(k + ahead * slices)
        while k < hidden:
            for j in range(rows):
                before[j] = get(states, state + k * rows + j)
            for g in range(count):
                weight = load_number(at + (g + (1 if g >= hole else 0)) * pitch)
                for j in range(rows):
                    sums[g * rows + j] = number(sums[g * rows + j] + weight * before[j])
            at += step
            k = int32(k + slices)

    made: Callable[..., None] = register_jitable(add_products)
    return made


def stage_of(
    directions: tuple[tuple[Stage, ...], ...], s: int, gates: int, rows: int, threads: int, shared: bool, dtype: str
) -> Callable[..., None]:
    """advance(a, states, lengths, step, d, row0): stage s of a step. lengths: of the thread's rows.

    Weights are read `ahead` units of the state before they are used, as many as registers hold without being spilled.
    """
    stage, slots = directions[0][s], slots_of(directions[0])
    count, first = len(stage.gates), stage.gates[0]
    hole = next((g for g in range(count) if stage.gates[g] != first + g), count)  # behind it numbers are one larger
    assert all(stage.gates[g] == first + g + (g >= hole) for g in range(count))
    multiplied, last = slots[stage.state] if stage.state != "h" else -1, s == len(directions[0]) - 1
    kind = dtype_from_name(dtype)
    wide, item = summed(kind), kind.itemsize
    number, store_number = register(wide), store(dtype)
    pick = pick_of(wide)
    finish, sums_count, each = cell(directions, s, gates, rows, kind, wide), count * rows, -(-rows // SLICES)
    totals_count, registers = 2 * MOST_GATES, sums_count * wide.itemsize // 4
    ahead = 4 if registers < 12 else 2 if shared else 1
    add_products = products_of(count, rows, hole, ahead, SLICES, dtype)
    ONE, TWO, THREE = (min(j, rows - 1) for j in range(1, SLICES))
    across = threads // SLICES  # units that the block has at a time

    @register_jitable
    def put_row(a, states, length, step, d, row0, row, unit, now, total0, total1, total2, total3):
        """The equations of one unit of one row, if its sequence goes on."""
        if step < length:
            time = int32(length - 1 - step) if word(a, REVERSE + d) != 0 else step
            x = address(a, X, X_DIRECTION, X_ROW, d, row0 + row) + time * word(a, X_TIME)
            h = finish(a, states, x, d, unit, row, now, total0, total1, total2, total3)
            if last:
                y = address(a, Y, Y_DIRECTION, Y_ROW, d, row0 + row) + time * word(a, Y_TIME)
                store_number(y + unit * item, h)

    def advance(a, states, lengths, step, d, row0):
        sums = cuda.local.array(sums_count, number)
        totals = cuda.local.array(totals_count, number)
        t, hidden = int32(thread()), int32(word(a, HIDDEN))
        part = int32((t >> 3) & (SLICES - 1))
        slot = int32(hidden * rows)
        now = int32((step & 1) * slot)
        state = now if multiplied < 0 else int32(multiplied * slot)
        pitch = word(a, PITCH)
        r_row = gates * pitch
        r = word(a, R) + d * word(a, R_DIRECTION) + first * pitch + part * r_row
        r_next = SLICES * r_row
        unit0 = int32((t >> 5) * NEIGHBOURS)
        while unit0 < hidden:  # the same for a whole warp
            unit = int32(unit0 + (t & (NEIGHBOURS - 1)))
            for i in range(sums_count):
                sums[i] = number(0)
            at = r + min(unit, hidden - 1) * item
            add_products(sums, states, state, at, part, hidden, r_next, pitch)
            for i in range(sums_count):
                total = sums[i]
                total = number(total + cuda.shfl_xor_sync(ALL, total, NEIGHBOURS))
                sums[i] = number(total + cuda.shfl_xor_sync(ALL, total, 2 * NEIGHBOURS))
            for i in range(each * MOST_GATES):
                totals[i] = number(0)
            for i in range(each):
                for g in range(count):
                    s = g * rows + SLICES * i
                    totals[i * MOST_GATES + g] = pick(part, sums[s], sums[s + ONE], sums[s + TWO], sums[s + THREE])
            if unit < hidden:
                row = part
                put_row(
                    a, states, lengths[0], step, d, row0, row, unit, now, totals[0], totals[1], totals[2], totals[3]
                )
                if each > 1:
                    row = int32(part + SLICES)
                    put_row(
                        a, states, lengths[1], step, d, row0, row, unit, now, totals[4], totals[5], totals[6], totals[7]
                    )
            unit0 = int32(unit0 + across)

    made: Callable[..., None] = register_jitable(advance)
    return made

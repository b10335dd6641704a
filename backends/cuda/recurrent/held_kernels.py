"""Products with weights that a thread keeps in registers, and the equations of its unit and row: straight code, so that local
arrays are registers.

Lanes share the sum of a unit, each with every lanes-th vector of 16 bytes of the state: neighbours read neighbouring vectors of
shared memory. What they have comes together by shuffles: as long as there are several rows, each lane keeps half of them and gives
the other half away, so that lane j of a unit ends with row j of the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, register
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.recurrent.cell_kernels import PEEPHOLES
from graphc.backends.cuda.recurrent.persistent_block import Layout
from graphc.backends.cuda.recurrent.state_kernels import element
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, I32, I64, register_type
from graphc.lower.recurrent_cells import Stage

CHAINS = 4  # sums that a thread adds to in turn: an addition takes as many cycles


def held_weights(
    gates: Sequence[int], layout: Layout, width: int, dtype: np.dtype, wide: np.dtype
) -> Callable[..., None]:
    """held_weights(weights, row, step, lane, hidden): this lane's share of each gate's row of weights into the local array; 0 behind
    its end. row: of gate 0; step: bytes from one gate to the next. width: weights that may be read at once."""
    vector, one = layout.vector, register_type(wide)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (weights, row, step, lane, hidden) = q.b, a
        at = 0
        for gate in gates:
            line = b.add(row, b.mul(step, I64(gate)))
            for i in range(layout.span):
                for first in range(0, vector, width):
                    k = b.add(b.mul(b.add(lane, I32(i * layout.lanes)), I32(vector)), I32(first))
                    inside = b.icmp_unsigned("<", k, hidden)
                    k = b.select(inside, k, I32(0))
                    address = b.add(line, b.mul(b.zext(k, I64), I64(dtype.itemsize)))
                    for x in q.load_run(q.pointer(address), dtype, width):
                        x = b.select(inside, x, q.const(0, one, 1))
                        q.store_raw(x, q.offset(weights, I64(at * wide.itemsize)))
                        at += 1

    return device(emit, types.void, types.voidptr, types.int64, types.int64, types.int32, types.int32)


def held_products(at: int, count: int, chunk: int, layout: Layout, wide: np.dtype) -> Callable[..., None]:
    """held_products(totals, weights, tile, first, lane, mine): of `chunk` rows of the tile from number `first` on; where `mine` is 1,
    totals[g] becomes gate g's sum of row `lane % chunk`. Weights of gate g begin at `at` and g spans further."""
    vector, item, one = layout.vector, wide.itemsize, register_type(wide)
    each = layout.span * vector
    chains = min(each, max(1, CHAINS // (count * chunk)))
    pack = ir.VectorType(one, vector)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (totals, weights, tile, first, lane, mine) = q.b, a
        start = element(q, tile, b.add(first, b.zext(b.mul(lane, I32(vector)), I64)), wide)
        sums: dict[tuple[int, int, int], ir.Value] = {}
        for i in range(layout.span):
            for j in range(chunk):
                place = q.offset(start, I64((j * layout.pitch + i * layout.lanes * vector) * item))
                state = q.load_raw(place, one, vector)
                assert state.type == pack
                for v in range(vector):
                    x = b.extract_element(state, I32(v))
                    for g in range(count):
                        w = q.load_raw(q.offset(weights, I64((at + g * each + i * vector + v) * item)), one, 1)
                        key = g, j, (i * vector + v) % chains
                        term = b.fmul(w, x)
                        sums[key] = b.fadd(sums[key], term) if key in sums else term
        for g in range(count):
            rows = []
            for j in range(chunk):
                total = sums[g, j, 0]
                for c in range(1, chains):
                    total = b.fadd(total, sums[g, j, c])
                rows.append(total)
            total = _gathered(q, rows, lane, layout.lanes)
            place = q.offset(totals, I64(g * item))
            chosen = b.select(b.icmp_unsigned("!=", mine, I32(0)), total, q.load_raw(place, one, 1))
            q.store_raw(chosen, place)

    whole = types.int32
    return device(emit, types.void, types.voidptr, types.voidptr, types.voidptr, types.int64, whole, whole)


def _gathered(q: CudaEmit, rows: list[ir.Value], lane: ir.Value, lanes: int) -> ir.Value:
    """The sum over a unit's lanes of what they have of row `lane % len(rows)`. Both partners of an exchange add the same two."""
    b, chunk = q.b, len(rows)
    apart = chunk // 2
    while apart:
        upper = b.icmp_unsigned("!=", b.and_(lane, I32(apart)), I32(0))
        halves = zip(rows[:apart], rows[apart:])
        kept = [(b.select(upper, y, x), b.select(upper, x, y)) for x, y in halves]
        rows = [b.fadd(mine, _from(q, given, apart)) for mine, given in kept]
        apart //= 2
    (total,) = rows
    apart = chunk
    while apart < lanes:
        total = b.fadd(total, _from(q, total, apart))
        apart *= 2
    return total


def _from(q: CudaEmit, x: ir.Value, apart: int) -> ir.Value:
    """x of the lane whose number differs in the bit `apart`."""

    def other(word: ir.Value, kind: ir.Type, name: str) -> ir.Value:
        return q.call(f"llvm.nvvm.shfl.sync.bfly.{name}", kind, I32(-1), word, I32(apart), I32(31))

    b = q.b
    if x.type == F32:
        return other(x, F32, "f32")
    bits = b.bitcast(x, I64)
    low, high = (other(b.trunc(part, I32), I32, "i32") for part in (bits, b.lshr(bits, I64(32))))
    return b.bitcast(b.or_(b.zext(low, I64), b.shl(b.zext(high, I64), I64(32))), x.type)


def held_inputs(gates: Sequence[int], wide: np.dtype) -> Callable[..., None]:
    """held_inputs(xs, address, hidden): what is there for each of these gates, `hidden` numbers apart."""

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> None:
        b, (xs, address, hidden) = q.b, a
        for g in gates:
            at = b.add(address, b.mul(b.zext(hidden, I64), I64(g * wide.itemsize)))
            q.store_raw(q.load_raw(q.pointer(at), register_type(wide), 1), q.offset(xs, I64(g * wide.itemsize)))

    return device(emit, types.void, types.voidptr, types.int64, types.int32)


def held_cell(
    directions: Sequence[Sequence[Stage]], s: int, states: Sequence[str], wide: np.dtype
) -> Callable[..., float]:
    """held_cell(mine, totals, xs, bs, ps, d): stage s of what this thread has of a step: `states` in `mine`, in this order, the
    projection in `xs` and biases in `bs` by gate, peepholes in `ps`. Gives its last result."""
    stage, one = directions[0][s], register_type(wide)

    def emit(q: CudaEmit, a: Sequence[ir.Value]) -> ir.Value:
        b, (mine, totals, xs, bs, ps, d) = q.b, a

        def place(array: ir.Value, number: int) -> ir.Value:
            return q.offset(array, I64(number * wide.itemsize))

        def value(name: str) -> ir.Value:
            if name in states:
                at = place(mine, states.index(name))
            elif name in PEEPHOLES:
                at = place(ps, PEEPHOLES.index(name))
            else:
                at = place(xs if name[0] == "x" else bs, int(name[1:]))
            return q.load_raw(at, one, 1)

        given = [q.load_raw(place(totals, g), one, 1) for g in range(len(stage.gates))]
        values = [b.fadd(value(n), t) for n, t in zip(stage.starts, given)]
        values += map(value, stage.operands)

        def equations(of: Stage) -> ir.Value:
            made = list(values)
            for name, e in of.results:
                made.append(expr_code.emit(q, e, made, 1))
                q.store_raw(made[-1], place(mine, states.index(name)))
            return made[-1]

        if len(directions) == 1:
            return equations(stage)
        last = q.variable(one)
        for number, stages in enumerate(directions):
            with b.if_then(b.icmp_signed("==", d, ir.Constant(d.type, number))):
                b.store(equations(stages[s]), last)
        return b.load(last)

    pointer = types.voidptr
    return device(emit, register(wide), pointer, pointer, pointer, pointer, pointer, types.int32)

"""The equations of a stage for one unit and one row of the batch: LLVM IR made from its expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device, register
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.recurrent.recurrent_block import RECURRENT, slots_of
from graphc.backends.cuda.recurrent.state_kernels import element
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import i64, register_type
from graphc.lower.recurrent_cells import Stage

PEEPHOLES = ("pi", "po", "pf")  # in the operand's order
MOST_GATES = 4
B, P, HIDDEN = RECURRENT["b p hidden"]


def cell(
    directions: Sequence[Sequence[Stage]], s: int, gates: int, rows: int, dtype: np.dtype, wide: np.dtype
) -> Callable[..., float]:
    """cell(a, states, x, d, unit, row, now, total0 … total3): what stage s makes of the gates' totals goes into the states;
    gives its last result. x: address of the projection of this row. row: of the block. now: element of the last step's 'h'.
    dtype: of operands; wide: of the projection and the states.
    """
    stage, slots, one = directions[0][s], slots_of(tuple(directions[0])), register_type(wide)

    def emit(q: CudaEmit, args: Sequence[ir.Value]) -> ir.Value:
        b = q.b
        address, states, x, d, unit, row, now, *totals = args
        words = q.pointer(address)
        hidden = q.slot(words, HIDDEN)
        mine = b.add(b.mul(unit, i64(rows)), row)
        slot = b.mul(hidden, i64(rows))

        def vector(base: ir.Value, number: ir.Value, kind: np.dtype) -> ir.Value:
            """A unit's number in vector `number` of those at an address."""
            at = b.add(b.mul(number, hidden), unit)
            return q.load(q.pointer(b.add(base, b.mul(at, i64(kind.itemsize)))), kind, 1)

        def state(name: str, result: bool) -> ir.Value:
            start = b.mul(slot, i64(slots[name]))
            if name == "h":
                start = b.sub(slot, now) if result else now
            return element(q, states, b.add(start, mine), wide)

        def value(name: str) -> ir.Value:
            if name in slots:
                return q.load_raw(state(name, False), one, 1)
            if name in PEEPHOLES:
                number = b.add(b.mul(d, i64(len(PEEPHOLES))), i64(PEEPHOLES.index(name)))
                return vector(q.slot(words, P), number, dtype)
            gate = int(name[1:])
            if name[0] == "b":
                return vector(q.slot(words, B), b.add(b.mul(d, i64(2 * gates)), i64(gates + gate)), dtype)
            return vector(x, i64(gate), wide)

        values = [b.fadd(value(n), t) for n, t in zip(stage.starts, totals)]
        values += map(value, stage.operands)

        def equations(of: Stage) -> ir.Value:
            made = list(values)
            for name, e in of.results:
                made.append(expr_code.emit(q, e, made, 1))
                q.store_raw(made[-1], state(name, True))
            return made[-1]

        if len(directions) == 1:
            return equations(stage)
        last = q.variable(one)
        for number, stages in enumerate(directions):
            with b.if_then(b.icmp_signed("==", d, i64(number))):
                b.store(equations(stages[s]), last)
        return b.load(last)

    whole = types.int64
    totals = [register(wide)] * MOST_GATES
    return device(emit, register(wide), whole, types.voidptr, whole, whole, whole, whole, whole, *totals)

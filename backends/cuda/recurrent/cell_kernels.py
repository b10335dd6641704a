"""The equations of a stage for one unit and one row of the batch: LLVM IR made from its expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.cuda import types

from graphc.backends.cuda.codegen.device import device
from graphc.backends.cuda.codegen.emit import CudaEmit
from graphc.backends.cuda.recurrent.recurrent_block import RECURRENT, slots_of
from graphc.backends.cuda.recurrent.state_kernels import element
from graphc.backends.llvm import expr_code
from graphc.backends.llvm.emit import F32, i64
from graphc.lower.recurrent_cells import Stage

PEEPHOLES = ("pi", "po", "pf")  # in the operand's order
MOST_GATES = 4
B, P, HIDDEN = RECURRENT["b p hidden"]


def cell(directions: Sequence[Sequence[Stage]], s: int, gates: int, rows: int) -> Callable[..., float]:
    """cell(a, states, x, d, unit, row, now, total0 … total3): what stage s makes of the gates' totals goes into the states;
    gives its last result. x: address of the projection of this row. row: of the block. now: element of the last step's 'h'.
    """
    stage, slots = directions[0][s], slots_of(tuple(directions[0]))

    def emit(q: CudaEmit, args: Sequence[ir.Value]) -> ir.Value:
        b = q.b
        address, states, x, d, unit, row, now, *totals = args
        words = q.pointer(address)
        hidden = q.slot(words, HIDDEN)
        mine = b.add(b.mul(unit, i64(rows)), row)
        slot = b.mul(hidden, i64(rows))

        def vector(base: ir.Value, number: ir.Value) -> ir.Value:
            """A unit's number in vector `number` of those at an address."""
            at = b.add(b.mul(number, hidden), unit)
            return q.pointer(b.add(base, b.mul(at, i64(4))))

        def place(name: str, result: bool) -> ir.Value:
            if name in slots:
                start = b.mul(slot, i64(slots[name]))
                if name == "h":
                    start = b.sub(slot, now) if result else now
                return element(q, states, b.add(start, mine))
            if name in PEEPHOLES:
                number = b.add(b.mul(d, i64(len(PEEPHOLES))), i64(PEEPHOLES.index(name)))
                return vector(q.slot(words, P), number)
            gate = int(name[1:])
            if name[0] == "b":
                return vector(q.slot(words, B), b.add(b.mul(d, i64(2 * gates)), i64(gates + gate)))
            return vector(x, i64(gate))

        values = [b.fadd(q.load_raw(place(n, False), F32, 1), t) for n, t in zip(stage.starts, totals)]
        values += [q.load_raw(place(n, False), F32, 1) for n in stage.operands]

        def equations(of: Stage) -> ir.Value:
            made = list(values)
            for name, e in of.results:
                made.append(expr_code.emit(q, e, made, 1))
                q.store_raw(made[-1], place(name, True))
            return made[-1]

        if len(directions) == 1:
            return equations(stage)
        last = q.variable(F32)
        for number, stages in enumerate(directions):
            with b.if_then(b.icmp_signed("==", d, i64(number))):
                b.store(equations(stages[s]), last)
        return b.load(last)

    whole = types.int64
    totals = [types.float32] * MOST_GATES
    return device(emit, types.float32, whole, types.voidptr, whole, whole, whole, whole, whole, *totals)

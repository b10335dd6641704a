"""Loop and Scan: the steps of the body, behind which the program jumps back.

States lie at one place: the body makes the next ones beside them, and a copy brings them there. So do copies with the elements of
scanned operands and of collected results: which ones, the number of trips on the device says. Where nothing but a constant ends
the loop, the host counts and waits for nothing; else it reads a byte after each trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from graphc.backends.cuda.codegen.widths import widest
from graphc.backends.cuda.control.held import append, jump, steps_of
from graphc.backends.cuda.control.loop_block import (
    CARRY,
    CONTROL_BYTES,
    LOOP_BEGIN,
    LOOP_END,
    LOOP_NEXT,
    ON,
    Carry,
    LoopBegin,
    LoopEnd,
    LoopNext,
)
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import RULES, lowers
from graphc.graph import Node, Value
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.held import dense
from graphc.lower.iterations import (
    COUNT,
    Iterations,
    loop_iterations,
    loop_reason,
    rows_iterations,
    rows_reason,
    scan_iterations,
    scan_reason,
    without,
)
from graphc.lower.program import Program
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.report import StepInfo
from graphc.sizes import is_size
from graphc.types import TensorType


@lowers("Loop", supported=partial(loop_reason, RULES))
def lower_loop(lo: CudaLowering, group: Group) -> None:
    _emit(lo, group.nodes[0], loop_iterations(lo, group.nodes[0]))


@lowers("LoopRows", supported=partial(rows_reason, RULES))
def lower_rows(lo: CudaLowering, group: Group) -> None:
    _emit(lo, group.nodes[0], rows_iterations(lo, group.nodes[0]))


@lowers("Scan", supported=partial(scan_reason, RULES))
def lower_scan(lo: CudaLowering, group: Group) -> None:
    _emit(lo, group.nodes[0], scan_iterations(lo, group.nodes[0]))


class Part(NamedTuple):
    """Rows of `nbytes`, `row` bytes apart, `step` bytes further with each trip."""

    ref: Ref
    rows: int
    nbytes: int
    row: int
    step: int = 0


def _whole(ref: Ref, t: TensorType) -> Part:
    return Part(ref, 1, t.nbytes, t.nbytes)


def _walk(s: Storage, axis: int, back: bool) -> Part:
    """The elements along an axis of dense memory."""
    shape = s.type.extents
    nbytes = prod(shape[axis + 1 :]) * s.type.dtype.itemsize
    first = s.ref + (shape[axis] - 1) * nbytes if back else s.ref
    return Part(first, prod(shape[:axis]), nbytes, shape[axis] * nbytes, -nbytes if back else nbytes)


def _emit(lo: CudaLowering, node: Node, run: Iterations) -> None:
    name, body = node.output.name, run.body
    read: set[Value] = {v for k in body.nodes for v in k.operands} | set(body.outputs)

    def memory(what: str, t: TensorType) -> Storage:
        return Storage(Ref(Buffer(f"{name}/{what}", t.nbytes)), t, dense_strides(t))

    types = [v.type for v in run.initial]
    results = [lo.write(v) for v in run.results]
    states = [*results, *(memory("unread", t) for t in types[len(results) :])]
    after = [memory("next state", t) for t in types]
    elements = [memory("element", without(s.type, axis)) for s, axis, _ in run.elements]
    items = [None if i is None else memory("item", without(i[0].type, i[1])) for i in run.items]
    control = Ref(Buffer(f"{name}/loop", CONTROL_BYTES))
    again = memory("again", body.outputs[0].type) if run.ends else None
    captured = body.inputs[len(body.inputs) - len(run.captures) :]
    captures = [lo.read(x) if v in read else None for v, x in zip(captured, run.captures)]
    first: list[Storage] = []
    if run.counted:
        first = [Storage(control, COUNT, ()), constant(lo, np.ones(body.inputs[1].type.extents, bool))]
    program = steps_of(
        lo, body, [*first, *states, *elements, *captures], [*([again] if run.counted else []), *after, *items]
    )

    initial = [(_whole(dense(lo, v), v.type), _whole(s.ref, v.type)) for v, s in zip(run.initial, states)]
    _carry(lo, node, initial, control, "initial states")
    certain = run.certain and not is_size(run.trips)  # then the host knows how often
    if certain and run.trips <= 0:
        return
    trip = lo.inner()  # whose steps are repeated
    scanned = [(_walk(*e), _whole(to.ref, to.type)) for e, to in zip(run.elements, elements)]
    _carry(trip, node, scanned, control, "elements of scanned operands")
    append(trip, program)
    made = [(_whole(new.ref, t), _whole(s.ref, t)) for new, s, t in zip(after, states, types)]
    made += [(_whole(one.ref, one.type), _walk(*to)) for one, to in zip(items, run.items) if one and to]
    _carry(trip, node, made, control, "states and collected results")
    if not certain or any(control.buffer in s.buffers() for s in trip.program.steps):
        args = LOOP_NEXT(grid=1, control=control, again=again.ref if again else 0)
        trip.emit(LoopNext(), args, _info(node, "loop_next"), writes=[control], reads=[again.ref] if again else [])
        _begin(lo, node, run, control)
    collected = [i[0].ref.buffer for i in run.items if i]
    _repeat(lo, node, trip.program, run.trips if certain else None, control + ON, collected)
    if run.part:
        done, going = run.part[1:]
        args = LOOP_END(grid=1, control=control, done=done, going=going)
        lo.emit(LoopEnd(), args, _info(node, "loop_end"), writes=[done, going])


def _begin(lo: CudaLowering, node: Node, run: Iterations, control: Ref) -> None:
    first = run.part[0] if run.part else 0
    args = LOOP_BEGIN(grid=1, control=control, trips=run.trips, first=first, limit=run.limit, condition=run.condition)
    lo.emit(LoopBegin(), args, _info(node, "loop_begin"), writes=[control])


def _repeat(
    lo: CudaLowering, node: Node, trip: Program, trips: int | None, on: Ref, collected: Sequence[Buffer]
) -> None:
    """The steps of a trip, `trips` times, or while the byte at `on` says so. collected: buffers that grow with each."""
    earlier = {b for s in lo.program.steps for b in s.buffers()}
    named = dict.fromkeys(b for s in trip.steps for b in s.buffers())
    holds = [b for b in named if b in earlier or b in collected]
    count = len(trip.steps)
    if trips is None:
        jump(lo, node, count + 1, "over all where there is no trip", on, 0)
    append(lo, trip)
    if trips is None:
        jump(lo, node, -count - 1, "back, as data says", on, holds=holds)
    elif trips > 1:
        jump(lo, node, -count - 1, f"back, {trips} trips", times=trips - 1, holds=holds)


def _info(node: Node, kernel: str, what: str = "", nbytes: int = 0) -> StepInfo:
    return StepInfo(0, (node.name,), (node.op.name,), kernel, "", what, node.output.name, 0, nbytes)


def _carry(lo: CudaLowering, node: Node, moves: Sequence[tuple[Part, Part]], control: Ref, what: str) -> None:
    """Copies: those that can be made with as wide units by one kernel."""
    by_width: dict[int, list[dict[str, Any]]] = {}
    for source, to in moves:
        nbytes, rows = (to.nbytes, to.rows) if to.rows > 1 or source.rows == 1 else (source.nbytes, source.rows)
        if not rows * nbytes:
            continue
        item = widest([source.ref, to.ref], nbytes)
        record = {
            "units": rows * (nbytes // item), "per_row": nbytes // item,
            "source": source.ref, "source_row": source.row if source.rows > 1 else nbytes, "source_step": source.step,
            "to": to.ref, "to_row": to.row if to.rows > 1 else nbytes, "to_step": to.step,
        }  # fmt: skip
        by_width.setdefault(item, []).append(record)
    for item, records in by_width.items():
        total = sum(r["units"] for r in records)
        moves_on = any(r["source_step"] != 0 or r["to_step"] != 0 for r in records)
        args = CARRY(grid=-(-total // THREADS), total=total, control=control if moves_on else 0, records=records)
        writes = [r["to"] for r in records]
        lo.emit(Carry(item, len(records)), args, _info(node, "carry", what, 2 * total * item), writes=writes)

"""Loop and Scan: the body is lowered once, and a step runs it again and again. See control/loop_driver.py."""

from __future__ import annotations

from functools import partial

import numpy as np

from graphc.backends.cpu.control.held import steps_of
from graphc.backends.cpu.control.loop_block import BODY_AT, HEAD, LOOP, MOVING, PATCH, STATE, Loop
from graphc.backends.cpu.control.subprogram import WORD, Subprogram, among, memory_of, subprogram, touched
from graphc.backends.cpu.control.subprogram_block import TEAM as TEAM_BLOCK
from graphc.backends.cpu.costs import ALONE, TEAM
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import RULES, lowers
from graphc.backends.cpu.sizes import CONTROL_BYTES, lines
from graphc.graph import Node
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
from graphc.lower.program import Word
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.report import StepInfo


@lowers("Loop", supported=partial(loop_reason, RULES))
def lower_loop(lo: CpuLowering, group: Group) -> None:
    _emit(lo, group.nodes[0], loop_iterations(lo, group.nodes[0]))


@lowers("LoopRows", supported=partial(rows_reason, RULES))
def lower_rows(lo: CpuLowering, group: Group) -> None:
    _emit(lo, group.nodes[0], rows_iterations(lo, group.nodes[0]))


@lowers("Scan", supported=partial(scan_reason, RULES))
def lower_scan(lo: CpuLowering, group: Group) -> None:
    _emit(lo, group.nodes[0], scan_iterations(lo, group.nodes[0]))


def _emit(lo: CpuLowering, node: Node, run: Iterations) -> None:
    name, body, n = node.output.name, run.body, len(run.initial)
    read = {v for k in body.nodes for v in k.operands} | set(body.outputs)
    ref = {"counter": Ref(Buffer(f"{name}/counter", WORD)), "again": Ref(Buffer(f"{name}/again", 1))}
    moving: dict[Buffer, int] = {}

    def place(label: str) -> Ref:
        """Memory whose address changes from trip to trip."""
        buffer = Buffer(f"{name}/{label}", 0)
        moving[buffer] = len(moving)
        return Ref(buffer)

    # elements and items, then two places of each state
    starts: list[tuple[Word, int]] = []
    elements, items = [], []
    for storage, axis, back in run.elements:
        elements.append(_one_of(place("element"), storage, axis))
        starts.append(_walk(storage, axis, back))
    for item in run.items:
        items.append(None if item is None else _one_of(place("item"), *item[:2]))
        if item is not None:
            starts.append(_walk(*item))
    types = [v.type for v in run.initial]
    before, after = [], []
    for t in types:
        before.append(Storage(place("state"), t, dense_strides(t)))
        after.append(Storage(place("next state"), t, dense_strides(t)))
    captures = [
        lo.read(x) if v in read else None
        for v, x in zip(body.inputs[len(body.inputs) - len(run.captures) :], run.captures)
    ]
    again = Storage(ref["again"], body.outputs[0].type, dense_strides(body.outputs[0].type)) if run.ends else None
    first = (
        [Storage(ref["counter"], COUNT, ()), constant(lo, np.ones(body.inputs[1].type.extents, bool))]
        if run.counted
        else []
    )
    program = steps_of(
        lo, body, [*first, *before, *elements, *captures], [*([again] if run.counted else []), *after, *items]
    )

    initial = [dense(lo, v) for v in run.initial]
    results = [lo.write(v).ref for v in run.results]
    results += [Ref(Buffer(f"{name}/unread", t.nbytes)) for t in types[len(results) :]]
    spares = [Ref(Buffer(f"{name}/spare", t.nbytes)) for t in types]
    outside = {r.buffer for r in (*ref.values(), *(s.ref for s in captures if s is not None))} | moving.keys()
    memory = memory_of(lo, [program], outside, name)
    steps = subprogram(lo, program, memory, moving)
    size = lines(WORD * len(moving))
    own = Ref(Buffer(f"{name}/steps", CONTROL_BYTES + size + steps.nbytes, "scratch"))
    moving_at = HEAD
    states_at = moving_at + MOVING.size * len(starts)
    patches_at = states_at + STATE.size * n
    checks_at = patches_at + PATCH.size * len(steps.patches)
    checks = steps.records(lo, 0)
    words_at = checks_at + len(checks)
    counted = run.counted and body.inputs[0] in read
    first_trip, done, going = run.part or (0, 0, 0)
    args: list[Word] = [
        *LOOP(
            trips=run.trips, first=first_trip, limit=run.limit,
            condition=run.condition, done=done, going=going, again=ref["again"] if run.ends else 0, counter=ref["counter"] if counted else 0,
            moving=len(starts), moving_at=moving_at, states=n, states_at=states_at,
            patches=len(steps.patches), patches_at=patches_at, places=own + CONTROL_BYTES,
        ),
        *TEAM_BLOCK(team=int(steps.team), control=own, report=words_at + len(steps.words), number=len(steps.checks)),
        *steps.head(own + (CONTROL_BYTES + size), words_at, checks_at),
        *(
            w
            for i, (start, step) in enumerate(starts)
            for w in MOVING(start=start, step=step, clear=int(lo.checked and run.part is not None and i >= len(elements)))
        ),
        *(
            w
            for i, r, s, t in zip(initial, results, spares, types)
            for w in STATE(initial=i, result=r, spare=s, nbytes=t.nbytes)
        ),
        *(w for word, number in steps.patches for w in PATCH(word=word, place=number)),
        *checks, *steps.words,
    ]  # fmt: skip
    assert len(args) == words_at + len(steps.words) and BODY_AT + len(steps.head(own, 0, 0)) == HEAD
    writes, reads = touched([program], outside)
    made = [r[0].ref for r in run.items if r is not None]
    writes = [w for w in writes if w.buffer not in moving]
    writes += [*results, *spares, *made, *ref.values(), *(run.part[1:] if run.part else ())]
    reads = [r for r in reads if r.buffer not in moving and r not in ref.values()]
    reads += [
        r
        for r in (*initial, first_trip, run.limit, run.condition, *(s.ref for s, *_ in run.elements))
        if isinstance(r, Ref)
    ]
    info = _info(node, run, steps)
    lo.emit(Loop(), args, info, check=among([steps]), writes=writes, reads=reads)


def _one_of(place: Ref, s: Storage, axis: int) -> Storage:
    """An element along an axis, at a place."""
    return Storage(place, without(s.type, axis), (*s.strides[:axis], *s.strides[axis + 1 :]))


def _walk(s: Storage, axis: int, back: bool) -> tuple[Word, int]:
    """The address of the first element along an axis, and the bytes to the next."""
    stride = s.strides[axis]
    return (s.ref + (s.type.extents[axis] - 1) * stride, -stride) if back else (s.ref, stride)


def _info(node: Node, run: Iterations, steps: Subprogram) -> StepInfo:
    trips = run.trips if run.certain else 1
    many = f"{trips} trips" if run.certain else "trips as data says"
    return StepInfo(
        0, (node.name,), (node.op.name,), Loop.name, TEAM if steps.team else ALONE,
        f"{many}, {len(steps.steps)} steps each", node.output.name, trips * steps.flops, trips * steps.moved,
        inside=steps.inside, type=steps.type,
    )  # fmt: skip

"""Loop and Scan: the body is lowered once, and a step runs it again and again. See control/loop_driver.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from graphc.backends.cpu.control.held import dense, host_reason, steps_of, types_of
from graphc.backends.cpu.control.loop_block import BODY_AT, HEAD, LOOP, MOVING, PATCH, STATE, Loop
from graphc.backends.cpu.control.subprogram import WORD, Subprogram, among, memory_of, subprogram, touched
from graphc.backends.cpu.control.subprogram_block import TEAM as TEAM_BLOCK
from graphc.backends.cpu.costs import ALONE, TEAM
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.sizes import CONTROL_BYTES, lines
from graphc.backends.cpu.target import Target
from graphc.graph import Graph, Node, Value
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.program import Word
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.report import StepInfo
from graphc.sizes import largest, whole
from graphc.types import TensorType

ENDLESS = np.iinfo(np.int64).max  # trips
FLAG, COUNT = TensorType(np.dtype(bool), ()), TensorType(np.dtype(np.int64), ())


@dataclass(eq=False)
class Iterations:
    """What a Loop and a Scan are: a body, and where its inputs come from and its outputs go to.

    body      its inputs: the counter and the condition (of a Loop), states, elements, captures; its outputs: the condition (of a
              Loop), states, items
    trips     how many there are at most
    elements  a scanned operand each, by its storage, axis, and is it read from its end?
    items     a collected result each, alike; None for one that nobody reads
    part      (first, done, going), of trips that are some of a Loop's: see control/loop_block.py
    """

    body: Graph
    trips: int
    initial: Sequence[Value]
    results: Sequence[Value]
    captures: Sequence[Value]
    limit: Ref | int = 0
    condition: Ref | int = 0
    counted: bool = False
    elements: Sequence[tuple[Storage, int, bool]] = ()
    items: Sequence[tuple[Storage, int, bool] | None] = ()
    part: tuple[Ref, Ref, Ref] | None = None
    ends: bool = field(init=False)

    def __post_init__(self) -> None:
        flag = self.body.outputs[0]
        self.ends = self.counted and not (flag.is_const and bool(np.all(flag.data)))


def loop_reason(node: Node, target: Target) -> str | None:
    """Why a Loop must run on the host, or None."""
    body, n = node.attrs["body"], node.attrs["n_states"]
    states, collected = types_of(node.inputs[2 : 2 + n]), types_of(node.outputs[n:])
    limit = node.inputs[0]
    if limit is not None and limit.dtype != np.int64:
        return "its number of trips is not int64"
    if any(t is None or not t.is_static for t in collected):
        return "how much it collects follows from data"
    items = [t.with_shape(t.shape[1:]) for t in collected if t is not None]
    inputs = [COUNT, None, *states, *types_of(node.inputs[2 + n :])]
    return host_reason(node, body, inputs, [None, *states, *items], "its body", target)


@lowers("Loop", supported=loop_reason)
def lower_loop(lo: CpuLowering, group: Group) -> None:
    (node,) = group.nodes
    body, n = node.attrs["body"], node.attrs["n_states"]
    limit, condition = node.inputs[:2]
    collected = [(lo.write(v), 0, False) for v in node.outputs[n:]]
    known = limit is not None and limit.is_const
    trips = largest(0, whole(limit.data.reshape(-1)[0])) if known else ENDLESS
    run = Iterations(
        body, trips, node.inputs[2 : 2 + n], node.outputs[:n], node.inputs[2 + n :],
        limit=0 if limit is None or known else dense(lo, limit),
        condition=0 if condition is None or (condition.is_const and condition.data.all()) else dense(lo, condition),
        counted=True,
        items=_padded(collected, len(body.outputs) - 1 - n),
    )  # fmt: skip
    _emit(lo, node, run)


def rows_reason(node: Node, target: Target) -> str | None:
    """Why a part of a Loop must run on the host, or None."""
    body, n = node.attrs["body"], node.attrs["n_states"]
    limit = node.inputs[1]
    if limit is not None and limit.dtype != np.int64:
        return "its number of trips is not int64"
    states, rows = types_of(node.inputs[3 : 3 + n]), [v.type for v in node.outputs[2 + n :]]
    inputs = [COUNT, None, *states, *types_of(node.inputs[3 + n :])]
    results = [None, *states, *(t.with_shape(t.shape[1:]) for t in rows)]
    return host_reason(node, body, inputs, results, "its body", target)


@lowers("LoopRows", supported=rows_reason)
def lower_rows(lo: CpuLowering, group: Group) -> None:
    (node,) = group.nodes
    body, n = node.attrs["body"], node.attrs["n_states"]
    first, limit, condition = node.inputs[:3]
    done, going, *results = node.outputs
    run = Iterations(
        body, node.attrs["rows"], node.inputs[3 : 3 + n], results[:n], node.inputs[3 + n :],
        limit=0 if limit is None else dense(lo, limit), condition=0 if condition is None else dense(lo, condition),
        counted=True, items=[(lo.write(v), 0, False) for v in results[n:]],
        part=(dense(lo, first), lo.write(done).ref, lo.write(going).ref),
    )  # fmt: skip
    _emit(lo, node, run)


def scan_reason(node: Node, target: Target) -> str | None:
    """Why a Scan must run on the host, or None."""
    body, n, m = node.attrs["body"], node.attrs["n_states"], node.attrs["num_scan_inputs"]
    states, elements = types_of(node.inputs[:n]), node.inputs[n : n + m]
    parts = [_without(v.type, axis) for v, axis in zip(elements, _listed(node, "scan_input_axes", m))]
    collected = node.outputs[n:]
    items = [_without(v.type, axis) for v, axis in zip(collected, _listed(node, "scan_output_axes", len(collected)))]
    inputs = [*states, *parts, *types_of(node.inputs[n + m :])]
    return host_reason(node, body, inputs, [*states, *items], "its body", target)


@lowers("Scan", supported=scan_reason)
def lower_scan(lo: CpuLowering, group: Group) -> None:
    (node,) = group.nodes
    body, n, m = node.attrs["body"], node.attrs["n_states"], node.attrs["num_scan_inputs"]
    scanned, collected = node.inputs[n : n + m], node.outputs[n:]
    axes, back = _listed(node, "scan_input_axes", m), _listed(node, "scan_input_directions", m)
    elements = [(lo.read(v), a % v.type.rank, bool(b)) for v, a, b in zip(scanned, axes, back)]
    axes = _listed(node, "scan_output_axes", len(collected))
    back = _listed(node, "scan_output_directions", len(collected))
    items = [(lo.write(v), a % v.type.rank, bool(b)) for v, a, b in zip(collected, axes, back)]
    s, axis, _ = elements[0]
    run = Iterations(
        body, s.type.extents[axis], node.inputs[:n], node.outputs[:n], node.inputs[n + m :],
        elements=elements, items=_padded(items, len(body.outputs) - n),
    )  # fmt: skip
    _emit(lo, node, run)


def _listed(node: Node, key: str, n: int) -> Sequence[int]:
    return node.attrs[key] or [0] * n


def _without(t: TensorType, axis: int) -> TensorType:
    axis %= t.rank
    return t.with_shape((*t.shape[:axis], *t.shape[axis + 1 :]))


def _padded(items: list, count: int) -> list:
    return items + [None] * (count - len(items))


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
    return Storage(place, _without(s.type, axis), (*s.strides[:axis], *s.strides[axis + 1 :]))


def _walk(s: Storage, axis: int, back: bool) -> tuple[Word, int]:
    """The address of the first element along an axis, and the bytes to the next."""
    stride = s.strides[axis]
    return (s.ref + (s.type.extents[axis] - 1) * stride, -stride) if back else (s.ref, stride)


def _info(node: Node, run: Iterations, steps: Subprogram) -> StepInfo:
    certain = run.limit == run.condition == 0 and not run.ends and run.part is None
    trips = run.trips if certain else 1
    many = f"{trips} trips" if certain else "trips as data says"
    return StepInfo(
        0, (node.name,), (node.op.name,), Loop.name, TEAM if steps.team else ALONE,
        f"{many}, {len(steps.steps)} steps each", node.output.name, trips * steps.flops, trips * steps.moved,
        inside=steps.inside,
    )  # fmt: skip

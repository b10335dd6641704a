"""Sequences and optionals: made, changed and read; loops that fill them."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TypeProto, helper

from ..draft import Draft, Reject, Tensor
from ..draws import BOOL, F32, I64, is_float
from . import step
from .control import condition, own


class Unit:
    """Nodes that are added at once."""

    def __init__(self, d: Draft) -> None:
        self.d, self.nodes = d, list[NodeProto]()

    def node(self, op: str, *inputs: Tensor | str | None, **attrs) -> str:
        """The name of its result."""
        self.nodes.append(self.d.proto(op, inputs, [True], attrs))
        return self.nodes[-1].output[0]

    def done(self, *outputs: str) -> tuple[Tensor, ...]:
        return self.d.unit(self.nodes, *outputs)


def alike(d: Draft) -> tuple[Tensor, list[Tensor]]:
    """A value, and up to five of its dtype and shape, itself among them."""
    x = d.pick(lambda t: 0 < t.rank < 6 and t.size > 0 and t.dtype.kind in "fiub")
    fits = [t for t in d.values if t.dtype == x.dtype and t.shapes() == x.shapes()]
    return x, [x, *(d.draw.one_of(*fits) for _ in range(d.draw.count(0, 4)))]


def read(d: Draft, unit: Unit, sequence: str, x: Tensor, length: int) -> tuple[Tensor, ...]:
    """What is in it, as one value or a few."""
    found = []
    if d.draw.chance(0.6):
        new = d.draw.one_of(None, 0, 1)
        axis = d.draw.count(0, x.rank - (0 if new else 1))
        found.append(unit.node("ConcatFromSequence", sequence, axis=axis, new_axis=new))
    if not found or d.draw.chance(0.5):
        at = d.const(d.draw.count(-length, length - 1), d.draw.one_of(np.int64, np.int32))
        found.append(unit.node("SequenceAt", sequence, at))
    if d.draw.chance(0.4):
        found.append(unit.node("SequenceLength", sequence))
    return unit.done(*found)


@step(2, opset=11)
def changed(d: Draft) -> tuple:
    """Constructed or begun empty, tensors put in and taken out, read at the end."""
    x, parts = alike(d)
    unit = Unit(d)
    if d.draw.chance(0.6):
        s, length = unit.node("SequenceConstruct", *parts), len(parts)
    else:
        s, length = unit.node("SequenceEmpty", dtype=helper.np_dtype_to_tensor_dtype(x.dtype)), 0
        for t in parts:
            s, length = unit.node("SequenceInsert", s, t), length + 1
    for _ in range(d.draw.count(0, 3)):
        if length > 1 and d.draw.chance(0.5):
            at = d.const(d.draw.count(-length, length - 1), I64) if d.draw.chance(0.7) else None
            s, length = unit.node("SequenceErase", s, at), length - 1
        else:
            at = d.const(d.draw.count(-length, length), I64) if d.draw.chance(0.7) else None
            s, length = unit.node("SequenceInsert", s, d.draw.one_of(*parts), at), length + 1
    return read(d, unit, s, x, length)


@step(1.5, opset=11)
def split_and_joined(d: Draft) -> tuple:
    """An axis taken apart and put together again, or some parts of it read."""
    x = d.pick(lambda t: 0 < t.rank < 6 and t.size > 0 and t.dtype.name in ("float32", "float64", "int64", "int32"))
    axis = d.axis(x, fixed=True)
    n = x.shape[axis]
    unit = Unit(d)
    form = d.draw.one_of("ones", "rows", "equal", "parts")
    if form == "parts":
        cut = d.draw.count(0, n)
        s, length = unit.node("SplitToSequence", x, d.ints(cut, n - cut), axis=axis), 2
    elif form == "equal":
        size = d.draw.count(1, n)
        s, length = unit.node("SplitToSequence", x, d.const(size, I64), axis=axis), -(-n // size)
    else:
        s, length = unit.node("SplitToSequence", x, axis=axis, keepdims=0 if form == "rows" else None), n
    at = unit.node("SequenceAt", s, d.const(d.draw.count(-length, length - 1), I64))
    if d.draw.chance(0.3):
        return unit.done(at)
    joined = unit.node(
        "ConcatFromSequence", s, axis=d.draw.count(0, x.rank - 1) if form == "rows" else axis,
        new_axis=1 if form == "rows" else None,
    )  # fmt: skip
    return unit.done(joined, *([at] if d.draw.chance(0.5) else []))


@step(1, opset=16)
def optional(d: Draft) -> tuple:
    """A tensor or a sequence that may be there: asked for and taken out."""
    x, parts = alike(d)
    unit = Unit(d)
    if d.draw.chance(0.5):
        o = unit.node("Optional", x)
        return unit.done(unit.node("OptionalGetElement", o), unit.node("OptionalHasElement", o))
    o = unit.node("Optional", unit.node("SequenceConstruct", *parts))
    return read(d, unit, unit.node("OptionalGetElement", o), x, len(parts))


@step(1.5, opset=13)
def filled(d: Draft) -> tuple:
    """A loop that puts a row into a sequence in each trip; it may end early."""
    x = d.pick(lambda t: is_float(t.dtype) and 0 < t.rank < 4 and 0 < t.size < 300)
    if x.open or d.outer is not None:
        raise Reject("open")
    trips = d.draw.count(1, 4)
    unit = Unit(d)
    s = unit.node("SequenceEmpty", dtype=helper.np_dtype_to_tensor_dtype(x.dtype))
    i, go, held = d.name("f"), d.name("f"), d.name("f")
    body: list[NodeProto] = []

    def inside(op: str, *inputs: Tensor | str, **attrs) -> str:
        body.append(d.proto(op, inputs, [True], attrs))
        return body[-1].output[0]

    factor = inside("Cast", i, to=helper.np_dtype_to_tensor_dtype(x.dtype))
    row = inside(d.draw.one_of("Mul", "Add", "Max"), x, factor)
    after = inside("SequenceInsert", held, row)
    more = inside("Less", i, d.const(d.draw.one_of(1, 9), I64)) if d.draw.chance(0.4) else inside("Identity", go)
    dtype = helper.np_dtype_to_tensor_dtype(x.dtype)
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(dtype, None))
    graph = helper.make_graph(
        body, d.name("g"),
        [helper.make_tensor_value_info(i, 7, []), helper.make_tensor_value_info(go, 9, []), info(held, sequence)],
        [helper.make_tensor_value_info(more, 9, []), info(after, sequence)],
    )  # fmt: skip
    s = unit.node("Loop", d.const(trips, I64), d.const(np.array(True), BOOL), s, body=graph)
    return unit.done(unit.node("ConcatFromSequence", s, axis=0, new_axis=d.draw.one_of(None, 1)))


def info(name: str, kind: TypeProto):
    return helper.make_value_info(name, kind)


@step(1, opset=11)
def chosen_sequence(d: Draft) -> tuple:
    """Branches that give one sequence or another, of one length or of two."""
    x, parts = alike(d)
    if d.outer is not None:
        raise Reject("outer")
    go = condition(d)
    unit = Unit(d)

    def branch(n: int):
        made = d.proto("SequenceConstruct", parts[:n], [True], {})
        kind = helper.make_sequence_type_proto(
            helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(x.dtype), None)
        )
        return helper.make_graph([made], d.name("g"), [], [info(made.output[0], kind)])

    ways = [branch(d.draw.count(1, len(parts))) for _ in range(2)]
    s = unit.node("If", go, then_branch=ways[0], else_branch=ways[1])
    return unit.done(unit.node("SequenceAt", s, d.const(0, I64)), unit.node("SequenceLength", s))


@step(1.5)
def scan_of_steps(d: Draft) -> object:
    """A Scan of two states and two inputs, whose body holds a Loop or an If."""
    from .control import few

    x = d.pick(lambda t: is_float(t.dtype) and 1 < t.rank < 4 and 0 < t.size < 400)
    if x.open or d.opset < 9:
        raise Reject("open")
    rows = x.shape[0]
    start = d.operand(x.dtype, x.shape[1:], -1, 1)
    count = d.operand(F32, (), 0, 1)
    other = d.operand(F32, (rows,), -1, 1)
    inner = d.child()
    state, total = inner.formal(start), inner.formal(count)
    row = inner.formal(Tensor("", x.dtype, tuple((w[0][0],) for w in x.worlds)))
    weight = inner.formal(Tensor("", F32, tuple((w[0][0],) for w in other.worlds)))
    after = own(inner, few(inner, inner.node("Max", inner.node("Mul", state, inner.const(0.5, x.dtype)), row)))
    total = inner.node("Add", total, weight)
    out = own(inner, few(inner, after))
    out = inner.node("Identity", out) if out is after else out
    body = inner.graph([after, total, out])
    return d.node("Scan", start, count, x, other, outputs=3, body=body, num_scan_inputs=2)

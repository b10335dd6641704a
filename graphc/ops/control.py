"""Control flow: If, Loop and Scan run graphs that they hold as attributes.

A held graph's inputs are the formal ones of the operator and then the outer values that it uses; those captures are the
node's last operands. So everything that a node reads is among its operands, and no rewrite has to look inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count

import numpy as np

from graphc.errors import GraphcError, InputError, TypeRuleError
from graphc.graph import Graph, Value
from graphc.infer import bind
from graphc.interpret import run_graph
from graphc.op import Attr, Call, Domain, Kind, Op, register
from graphc.types import Dim, Sym, TensorType

Types = list["TensorType | None"]


def specialise(graph: Graph, types: Sequence[TensorType | None], data: Sequence[np.ndarray | None]) -> Graph:
    """The held graph for inputs of those types (None: not known), with inputs whose value is known made constants."""
    new = {v.name: t for v, t in zip(graph.inputs, types) if t != v.type}
    fixed = {v.name: a for v, a in zip(graph.inputs, data) if a is not None}
    return bind(graph, new, fixed) if new or fixed else graph


def _require_inputs(call: Call, graph: Graph, given: int, what: str) -> None:
    if len(graph.inputs) != given:
        raise call.fail(f"{what} takes {len(graph.inputs)} inputs, the node gives it {given}")


def _type_or_none(v: Value | None) -> TensorType | None:
    return None if v is None else v.type


def join(call: Call, a: TensorType | None, b: TensorType | None, name: str) -> TensorType | None:
    """A type that both a and b are of: dims that differ become one named after the value. None where ranks differ."""
    if a is None or b is None or a.rank != b.rank:
        return None
    if a.dtype != b.dtype:
        raise call.fail(f"'{name}' is {a} on one way and {b} on another", "insert a Cast")
    return a.with_shape([d if d == e else Sym(f"{name}.{i}") for i, (d, e) in enumerate(zip(a.shape, b.shape))])


# --- If ---------------------------------------------------------------------------------------------------------------
def _if_types(call: Call) -> Types:
    captures = call.inputs[1:]
    types, data = [_type_or_none(v) for v in captures], [v.data for v in captures]
    branches = []
    for key in ("then_branch", "else_branch"):
        graph = call.attrs[key]
        _require_inputs(call, graph, len(captures), key)
        if len(graph.outputs) < call.n_outputs:
            raise call.fail(f"{key} gives {len(graph.outputs)} results, the node has {call.n_outputs} outputs")
        branches.append(graph)
    if call.inputs[0].is_const:  # the other branch may not even be valid for these types
        chosen = branches[0 if bool(call.const(0).reshape(())) else 1]
        return [v.type for v in specialise(chosen, types, data).outputs]
    # A branch that does not fit these types is not the one that is taken: exporters write x.squeeze(1) as
    # If(size is 1, Squeeze, Identity). Whoever takes it all the same is told what does not fit.
    fitting, misfits = [], []
    for graph in branches:
        try:
            fitting.append(specialise(graph, types, data).outputs)
        except TypeRuleError as error:
            misfits.append(error)
    if not fitting:
        raise misfits[0]
    yes, no = fitting[0], fitting[-1]
    return [join(call, a.type, b.type, f"{a.name}|{b.name}") for a, b in zip(yes, no)]


def _if(cond, *captures, then_branch, else_branch):
    branch = then_branch if bool(np.reshape(cond, ())) else else_branch
    return tuple(run_graph(branch, captures, strict=False))


register(
    Op(
        "If",
        ("cond", "*captures"),
        Kind.CONTROL,
        _if_types,
        _if,
        {"then_branch": Attr("graph"), "else_branch": Attr("graph")},
        outputs=("*ys",),
        domain=Domain(("bool",)),
    )
)


# --- Loop -------------------------------------------------------------------------------------------------------------
def _carried(
    call: Call, body: Graph, fixed: Types, states: Types, rest: Sequence[Value], first_output: int
) -> tuple[Graph, Types]:
    """The body and its states' types that hold before and after every iteration.

    A state dim that an iteration changes becomes a symbol, until nothing changes; a rank that changes is not known.
    `fixed` are the types of the inputs before the states, `rest` the values after them.
    """
    data = [None] * (len(fixed) + len(states)) + [v.data for v in rest]
    while True:
        types = [*fixed, *states, *(_type_or_none(v) for v in rest)]
        inner = specialise(body, types, data)
        after = [v.type for v in inner.outputs[first_output : first_output + len(states)]]
        names = [v.name for v in body.inputs[len(fixed) : len(fixed) + len(states)]]
        joined = [join(call, a, b, n) for a, b, n in zip(states, after, names)]
        if joined == states:
            return inner, joined
        states = joined


def _loop_types(call: Call) -> Types:
    body, n = call.body, call.n_states
    _require_inputs(call, body, len(call.inputs), "the body")
    if len(body.outputs) < 1 + n or call.n_outputs > len(body.outputs) - 1:
        raise call.fail(
            f"the body gives {len(body.outputs)} results; it must give a condition, {n} states and the rest"
        )
    states = [_type_or_none(v) for v in call.inputs[2 : 2 + n]]
    scalars: Types = [TensorType(np.int64, ()), TensorType(bool, ())]
    try:
        inner, states = _carried(call, body, scalars, states, call.inputs[2 + n :], 1)
        trips = _trip_count(call, inner)
    except TypeRuleError:
        if _surely_runs(call):
            raise
        inner, trips = body, 0  # a body that does not fit is never run
    scanned = [v.type and v.type.with_shape((trips, *v.type.shape)) for v in inner.outputs[1 + n :]]
    return [*states, *scanned]


def _trip_count(call: Call, body: Graph) -> Dim:
    """Length of what a Loop collects: M if it is known and nothing else can end the loop."""
    limit, cond = call.inputs[0], call.inputs[1]
    starts = cond is None or (cond.is_const and bool(cond.data.reshape(())))
    if limit is not None and limit.is_const and starts and _stays_true(body):
        return max(int(limit.data.reshape(())), 0)
    return Sym(f"trips({call.body.outputs[0].name})")


def _surely_runs(call: Call) -> bool:
    """Is there a first iteration whatever the inputs are?"""
    limit, cond = call.inputs[0], call.inputs[1]
    starts = cond is None or (cond.is_const and bool(cond.data.reshape(())))
    return starts and (limit is None or (limit.is_const and int(limit.data.reshape(())) > 0))


def _stays_true(body: Graph) -> bool:
    """Is the body's condition a constant true, or its own input handed on?"""
    makers, v = body.producers(), body.outputs[0]
    while v in makers and makers[v].op.name == "Identity":
        v = makers[v].inputs[0]
    if v in makers and makers[v].op.name == "Constant":
        return bool(np.all(makers[v].attrs["value"]))
    return v is body.inputs[1] or (v.is_const and bool(v.data.reshape(())))


def _loop(limit, cond, *rest, body, n_states):
    states, captures = list(rest[:n_states]), rest[n_states:]
    end = None if limit is None else int(np.reshape(limit, ()))
    go = cond is None or bool(np.reshape(cond, ()))
    collected: list[list[np.ndarray]] = [[] for _ in body.outputs[1 + n_states :]]
    for i in count():
        if not go or (end is not None and i >= end):
            break
        inputs = [np.array(i, np.int64), np.array(go), *states, *captures]
        flag, *results = run_graph(body, inputs, strict=False)
        go, states = bool(np.reshape(flag, ())), results[:n_states]
        for items, item in zip(collected, results[n_states:]):
            items.append(item)
    held = [np.zeros((), np.int64), np.zeros((), bool), *states, *captures]
    return (*states, *_stacked(body, held, 1 + n_states, collected, [0] * len(collected)))


def _stacked(
    body: Graph, inputs: Sequence[np.ndarray], first: int, collected: list[list[np.ndarray]], axes: Sequence[int]
) -> list[np.ndarray]:
    """What the iterations gave, stacked along new axes. inputs: of an iteration; where there was none, their types decide how
    large its results would have been (0 along a dim that no type tells). Raises GraphcError where the shapes differ."""
    if not all(collected):
        with suppress(TypeRuleError):  # a body that does not fit is never run
            types = [TensorType(a.dtype, a.shape) for a in inputs]
            body = specialise(body, types, [None] * len(types))
    out = []
    for value, items, axis in zip(body.outputs[first:], collected, axes):
        if len({a.shape for a in items}) > 1:
            raise GraphcError(
                f"'{value.name}' has another shape in a later iteration: {[a.shape for a in items][:4]} …"
            )
        if items:
            out.append(np.stack(items, axis))
        elif value.type is None:
            raise GraphcError(f"nothing was iterated over, and the type of '{value.name}' is not known")
        else:
            dims = [d if isinstance(d, int) else 0 for d in value.type.shape]
            dims.insert(axis % (len(dims) + 1), 0)
            out.append(np.zeros(dims, value.type.dtype))
    return out


register(
    Op(
        "Loop",
        ("limit?", "cond?", "*states_then_captures"),
        Kind.CONTROL,
        _loop_types,
        _loop,
        {"body": Attr("graph"), "n_states": Attr(int)},
        outputs=("*final_states_then_collected",),
    )
)


# --- Scan -------------------------------------------------------------------------------------------------------------
def _listed(given: tuple[int, ...] | None, n: int) -> list[int]:
    return list(given) if given else [0] * n


def _scan_types(call: Call) -> Types:
    body, n, m = call.body, call.n_states, call.num_scan_inputs
    _require_inputs(call, body, len(call.inputs), "the body")
    if n + m > len(call.inputs) or len(body.outputs) < n or call.n_outputs > len(body.outputs):
        raise call.fail(f"{n} states and {m} scanned operands do not fit {len(call.inputs)} operands")
    lengths: list[Dim] = []
    elements: Types = []
    for i, axis in zip(range(n, n + m), _listed(call.scan_input_axes, m)):
        x = call.type(i)
        axis = call.axis_of(axis, x.rank)
        lengths.append(x.shape[axis])
        elements.append(x.with_shape(x.shape[:axis] + x.shape[axis + 1 :]))
    known = {d for d in lengths if isinstance(d, int)}
    if len(known) > 1:
        raise call.fail(f"the scanned operands have different lengths: {', '.join(map(str, lengths))}")
    length = known.pop() if known else lengths[0]
    data = [None] * (n + m) + [v.data for v in call.inputs[n + m :]]
    states = [_type_or_none(v) for v in call.inputs[:n]]
    inner = specialise(body, [*states, *elements, *(_type_or_none(v) for v in call.inputs[n + m :])], data)
    outs = [v.type for v in inner.outputs]
    final = [join(call, a, b, v.name) for a, b, v in zip(states, outs, inner.outputs)]
    collected = []
    for t, axis in zip(outs[n:], _listed(call.scan_output_axes, len(outs) - n)):
        if t is not None:
            axis = call.axis_of(axis, t.rank + 1)
            t = t.with_shape((*t.shape[:axis], length, *t.shape[axis:]))
        collected.append(t)
    return [*final, *collected]


def _scan(
    *arrays,
    body,
    n_states,
    num_scan_inputs,
    scan_input_axes,
    scan_input_directions,
    scan_output_axes,
    scan_output_directions,
):
    states = list(arrays[:n_states])
    captures = arrays[n_states + num_scan_inputs :]
    axes = _listed(scan_input_axes, num_scan_inputs)
    scanned = [np.moveaxis(x, axis, 0) for x, axis in zip(arrays[n_states:], axes)]
    scanned = [x[::-1] if back else x for x, back in zip(scanned, _listed(scan_input_directions, num_scan_inputs))]
    if len({len(x) for x in scanned}) > 1:
        raise InputError(f"the scanned operands have different lengths: {[len(x) for x in scanned]}", op="Scan")
    collected: list[list[np.ndarray]] = [[] for _ in body.outputs[n_states:]]
    for elements in zip(*scanned):
        results = run_graph(body, [*states, *map(np.asarray, elements), *captures], strict=False)
        states = results[:n_states]
        for items, item in zip(collected, results[n_states:]):
            items.append(item)
    out_axes = _listed(scan_output_axes, len(collected))
    back = _listed(scan_output_directions, len(collected))
    collected = [items[::-1] if b else items for items, b in zip(collected, back)]
    held = [*states, *(np.zeros(x.shape[1:], x.dtype) for x in scanned), *captures]
    return (*states, *_stacked(body, held, n_states, collected, out_axes))


register(
    Op(
        "Scan",
        ("*states_then_scanned_then_captures",),
        Kind.CONTROL,
        _scan_types,
        _scan,
        {
            "body": Attr("graph"),
            "n_states": Attr(int),
            "num_scan_inputs": Attr(int),
            "scan_input_axes": Attr("ints", None),
            "scan_input_directions": Attr("ints", None),
            "scan_output_axes": Attr("ints", None),
            "scan_output_directions": Attr("ints", None),
        },
        outputs=("*final_states_then_collected",),
    )
)

"""Control flow: If, Loop and Scan run graphs that they hold as attributes.

A held graph's inputs are the formal ones of the operator and then the outer values that it uses; those captures are the
node's last operands. So everything that a node reads is among its operands, and no rewrite has to look inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from itertools import count

import numpy as np

from graphc.errors import GraphcError, InputError
from graphc.graph import Graph, Node, Value, constant
from graphc.interpret import run_held
from graphc.objects import common, is_object
from graphc.op import Attr, Call, Op, Samples, get_op, register
from graphc.ops.raising import raising, refusal
from graphc.ops.specialised import specialise
from graphc.sizes import whole
from graphc.types import Dim, Sym, TensorType
from graphc.words import many

Types = list["TensorType | None"]


def _run(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of the held graph. Where it does not fit its operands, which binding lets pass, its type rules say so best."""
    try:
        return run_held(graph, arrays)
    except GraphcError:
        specialise(graph, [TensorType(a.dtype, a.shape) for a in arrays], [None] * len(arrays))
        raise


def _require_inputs(call: Call, graph: Graph, given: int, what: str) -> None:
    if len(graph.inputs) != given:
        raise call.fail(f"{what} takes {many(len(graph.inputs), 'input')}, the node gives it {given}")


def _type_or_none(v: Value | None) -> TensorType | None:
    return None if v is None else v.type


def join(call: Call, a: TensorType | None, b: TensorType | None, name: str) -> TensorType | None:
    """A type that both a and b are of: dims that differ become one named after the value. None where ranks differ."""
    if is_object(a) or is_object(b):
        if a is None or b is None:
            return None
        found = common(a, b)
        if not isinstance(found, TensorType):
            raise call.fail(f"'{name}' is {a} on one way and {b} on another")
        return found
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
    if call.inputs[0].is_const:
        branches = [branches[0 if bool(call.const(0).reshape(())) else 1]]
    results, refusals = [], []
    for graph in branches:
        try:
            results.append(_valid(graph, types, data).outputs)
        except GraphcError as error:  # valid as long as the other branch is taken: a squeeze of a dim that may be 1
            refusals.append(error)
    if not results:
        raise refusals[0]
    if len(results) == 1:
        return [v.type for v in results[0]]
    return [join(call, a.type, b.type, f"{a.name}|{b.name}") for a, b in zip(*results)]


def _valid(branch: Graph, types: Types, data: Sequence[np.ndarray | None]) -> Graph:
    """`specialise`, of a branch. Raises GraphcError where it has no types that are valid."""
    error = refusal(branch)
    if error is not None:
        raise copy(error)
    return specialise(branch, types, data)


def _if(cond, *captures, then_branch, else_branch):
    return tuple(_run(then_branch if bool(np.reshape(cond, ())) else else_branch, captures))


register(
    Op(
        "If",
        ("cond", "*captures"),
        _if_types,
        _if,
        {"then_branch": Attr("graph"), "else_branch": Attr("graph")},
        outputs=("*ys",),
        samples=Samples(("bool",)),
    )
)


# --- Loop -------------------------------------------------------------------------------------------------------------
def _carried(
    call: Call, body: Graph, first_output: int, fixed: Types, states: Types, rest: Types, certain: bool
) -> tuple[Graph, Types] | None:
    """The body and its states' types that hold before and after every iteration.

    A state dim that an iteration changes becomes a symbol, until nothing changes; a rank that changes is not known.
    `fixed` and `rest` are the types of the inputs before and after the states. None where the body does not fit these
    types, unless it is `certain` that it runs.
    """
    n_captures = len(body.inputs) - len(fixed) - len(states) - len(rest)
    captures = call.inputs[len(call.inputs) - n_captures :] if n_captures else ()
    data = [None] * (len(body.inputs) - n_captures) + [v.data for v in captures]
    while True:
        types = [*fixed, *states, *rest, *(_type_or_none(v) for v in captures)]
        try:
            inner = specialise(body, types, data)
        except GraphcError:
            if certain:
                raise
            return None
        after = [v.type for v in inner.outputs[first_output : first_output + len(states)]]
        names = [v.name for v in body.inputs[len(fixed) : len(fixed) + len(states)]]
        joined = [join(call, a, b, n) for a, b, n in zip(states, after, names)]
        if joined == states:
            return inner, joined
        states = joined


def _loop_types(call: Call) -> Types:
    body, n = call.attrs.body, call.attrs.n_states
    _require_inputs(call, body, len(call.inputs), "the body")
    if len(body.outputs) < 1 + n or call.n_outputs > len(body.outputs) - 1:
        raise call.fail(
            f"the body gives {len(body.outputs)} results; it must give a condition, {n} states and the rest"
        )
    starts = _starts(call)
    if call.inputs[0] is None and starts and _stays_true(body):
        raise call.fail("it never ends: there is no number of trips, and the condition stays true")
    states = [_type_or_none(v) for v in call.inputs[2 : 2 + n]]
    scalars: Types = [TensorType(np.int64, ()), TensorType(bool, ())]
    carried = _carried(call, body, 1, scalars, states, [], starts is True)
    inner = carried[0] if carried else body
    if carried and starts is not False:
        states, trips = carried[1], _trip_count(call, inner)
        items = [v.type for v in inner.outputs[1 + n :]]
    else:
        trips, items = 0, _items_of_none(body, inner, 1 + n)
    _require_tensors(call, items)
    return [*states, *(t and t.with_shape((trips, *t.shape)) for t in items)]


def _require_tensors(call: Call, items: Types) -> None:
    """Raises TypeRuleError where what iterations give can't be stacked."""
    for t in items:
        if is_object(t):
            raise call.fail(f"it can't stack values of type {t}", "make it a state to which the body appends")


def _items_of_none(body: Graph, inner: Graph, first: int) -> Types:
    """Types of what no iteration gives: as the file declares them where they follow from values."""
    declared = body.meta.get("output_types", {})
    return [v.type or declared.get(name) for v, name in zip(inner.outputs[first:], body.output_names[first:])]


def _starts(call: Call) -> bool | None:
    """Does the body run at least once? None while that is not known."""
    answers = [v is None or (bool(np.all(v.data > 0)) if v.is_const else None) for v in call.inputs[:2]]
    return False if False in answers else None if None in answers else True


def _trip_count(call: Call, body: Graph) -> Dim:
    """Length of what a Loop collects: M if it is known and nothing else can end the loop."""
    limit = call.inputs[0]
    if limit is not None and limit.is_const and _starts(call) and _stays_true(body):
        return whole(limit.data.reshape(-1)[0])
    return Sym(f"trips({call.attrs.body.outputs[0].name})")


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
    if not go or (end is not None and end <= 0):
        return (*states, *_nothing_collected("Loop", (limit, cond, *rest), body=body, n_states=n_states))
    collected: list[list[np.ndarray]] = [[] for _ in body.outputs[1 + n_states :]]
    for i in count():
        if not go or (end is not None and i >= end):
            break
        inputs = [np.array(i, np.int64), np.array(go), *states, *captures]
        flag, *results = _run(body, inputs)
        go, states = bool(np.reshape(flag, ())), results[:n_states]
        for items, item in zip(collected, results[n_states:]):
            items.append(item)
    return (*states, *_stacked(body, 1 + n_states, collected, [0] * len(collected)))


def _stacked(body: Graph, first: int, collected: list[list[np.ndarray]], axes: Sequence[int]) -> list[np.ndarray]:
    """What the iterations gave, stacked along new axes. Raises GraphcError where the shapes differ."""
    out = []
    for value, items, axis in zip(body.outputs[first:], collected, axes):
        if len({a.shape for a in items}) > 1:
            raise GraphcError(
                f"'{value.name}' has another shape in a later iteration: {[a.shape for a in items][:4]} …"
            )
        out.append(np.stack(items, axis))
    return out


def _nothing_collected(op: str, arrays: Sequence[np.ndarray | None], **attrs) -> list[np.ndarray]:
    """What a Loop or Scan collects that does not iterate. A dim that no iteration decided is 0, as in ONNX Runtime."""
    n_outputs = len(attrs["body"].outputs) - (op == "Loop")
    formal = (v.type for v in attrs["body"].inputs)
    operands = [
        None if a is None else Value("", t) if is_object(t) else constant("", a) for a, t in zip(arrays, formal)
    ]
    types = get_op(op).infer(Call(get_op(op), operands, attrs, n_outputs))[attrs["n_states"] :]
    if None in types:
        raise GraphcError("nothing was iterated over, and the type of what it collects is not known")
    return [np.zeros([d if isinstance(d, int) else 0 for d in t.shape], t.dtype) for t in types]


register(
    Op(
        "Loop",
        ("limit?", "cond?", "*states_then_captures"),
        _loop_types,
        _loop,
        {"body": Attr("graph"), "n_states": Attr(int)},
        outputs=("*final_states_then_collected",),
    )
)


# --- LoopRows: some trips of a Loop that collects ---------------------------------------------------------------------
def _loop_rows_types(call: Call) -> Types:
    """What it has done, the condition, states, and so many rows of each collected value, of which those behind what is done may
    be anything."""
    body, n = call.attrs.body, call.attrs.n_states
    _require_inputs(call, body, len(call.inputs) - 1, "the body")
    items = [v.type and v.type.with_shape((call.attrs.rows, *v.type.shape)) for v in body.outputs[1 + n :]]
    states = [_type_or_none(v) for v in call.inputs[3 : 3 + n]]
    return [TensorType(np.int64, ()), TensorType(bool, ()), *states, *items]


def _loop_rows(first, limit, cond, *rest, body, n_states, rows):
    states, captures = list(rest[:n_states]), rest[n_states:]
    end = rows if limit is None else min(rows, int(np.reshape(limit, ())) - int(first))
    items = [np.zeros((rows, *v.shape), v.dtype) for v in body.outputs[1 + n_states :]]
    going, done = cond is None or bool(np.reshape(cond, ())), 0
    while going and done < end:
        inputs = [np.array(int(first) + done, np.int64), np.array(True), *states, *captures]
        flag, *results = _run(body, inputs)
        going, states = bool(np.reshape(flag, ())), results[:n_states]
        for collected, item in zip(items, results[n_states:]):
            collected[done] = item
        done += 1
    return (np.array(done, np.int64), np.array(going), *states, *items)


register(
    Op(
        "LoopRows",
        ("first", "limit?", "cond?", "*states_then_captures"),
        _loop_rows_types,
        _loop_rows,
        {"body": Attr("graph"), "n_states": Attr(int), "rows": Attr(int)},
        outputs=("*done_condition_final_states_then_rows",),
        internal=True,
    )
)


# --- Scan -------------------------------------------------------------------------------------------------------------
def _listed(given: tuple[int, ...] | None, n: int) -> list[int]:
    return list(given) if given else [0] * n


def _scan_types(call: Call) -> Types:
    body, n, m = call.attrs.body, call.attrs.n_states, call.attrs.num_scan_inputs
    _require_inputs(call, body, len(call.inputs), "the body")
    if not 0 < m <= len(call.inputs) - max(n, 0) or n < 0:
        raise call.fail(f"num_scan_inputs is {m}, and there are {len(call.inputs)} operands")
    if len(body.outputs) < n or call.n_outputs > len(body.outputs):
        raise call.fail(f"{n} states and {call.n_outputs} results do not fit the body's {len(body.outputs)} outputs")
    for names, wanted in (("input", m), ("output", len(body.outputs) - n)):
        for key in (f"scan_{names}_axes", f"scan_{names}_directions"):
            if (given := getattr(call.attrs, key)) and len(given) != wanted:
                raise call.fail(f"{key} has {len(given)} entries, and {wanted} {names}s are scanned")
        if not {0, 1}.issuperset(given or ()):
            raise call.fail(f"{key} holds 0 for forwards and 1 for backwards, not {list(given)}")
    lengths: list[Dim] = []
    elements: Types = []
    for i, axis in zip(range(n, n + m), _listed(call.attrs.scan_input_axes, m)):
        x = call.type(i)
        axis = call.axis_of(axis, x.rank)
        lengths.append(x.shape[axis])
        elements.append(x.with_shape(x.shape[:axis] + x.shape[axis + 1 :]))
    known = [d for d in lengths if isinstance(d, int)]
    if any(d != known[0] for d in known[1:]):
        raise call.fail(f"the scanned operands have different lengths: {', '.join(map(str, lengths))}")
    length = known[0] if known else lengths[0]
    states = [_type_or_none(v) for v in call.inputs[:n]]
    carried = _carried(call, body, 0, [], states, elements, isinstance(length, int) and length > 0)
    if carried and length != 0:
        inner, states = carried
        items = [v.type for v in inner.outputs[n:]]
    else:
        length, items = 0, _items_of_none(body, carried[0] if carried else body, n)
    _require_tensors(call, items)
    collected = []
    for t, axis in zip(items, _listed(call.attrs.scan_output_axes, len(items))):
        if t is not None:
            axis = call.axis_of(axis, t.rank + 1)
            t = t.with_shape((*t.shape[:axis], length, *t.shape[axis:]))
        collected.append(t)
    return [*states, *collected]


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
    if not len(scanned[0]):
        attrs = {"scan_input_axes": scan_input_axes, "scan_input_directions": scan_input_directions}
        attrs |= {"scan_output_axes": scan_output_axes, "scan_output_directions": scan_output_directions}
        attrs |= {"body": body, "n_states": n_states, "num_scan_inputs": num_scan_inputs}
        return (*states, *_nothing_collected("Scan", arrays, **attrs))
    collected: list[list[np.ndarray]] = [[] for _ in body.outputs[n_states:]]
    for elements in zip(*scanned):
        results = _run(body, [*states, *map(np.asarray, elements), *captures])
        states = results[:n_states]
        for items, item in zip(collected, results[n_states:]):
            items.append(item)
    out_axes = _listed(scan_output_axes, len(collected))
    back = _listed(scan_output_directions, len(collected))
    collected = [items[::-1] if b else items for items, b in zip(collected, back)]
    return (*states, *_stacked(body, n_states, collected, out_axes))


def bound_graphs(node: Node, simplified: Callable[[Graph], Graph] = lambda graph: graph) -> dict[str, Graph]:
    """The graphs that a node holds, by attribute, for the types of its operands, where these are static and do not change from
    iteration to iteration: others as they are. Operands that are constants are constants within, too.

    simplified: of a bound graph. In the place of a branch that it, or binding, can't make is one that raises the error. Raises
    GraphcError where there is no other, and where the body of a loop that runs can't be made.
    """
    call = node.call
    if any(v.type is None or not v.type.is_static for v in node.operands):
        return {}
    if node.op.name == "If":
        return _bound_branches(call, simplified)
    try:
        bound = {"Loop": _bound_loop, "Scan": _bound_scan}[node.op.name](call)
    except (GraphcError, KeyError):
        return {}
    try:
        return {key: simplified(graph) for key, graph in bound.items()}
    except GraphcError:
        if _runs(node):
            raise
        return {}


def _runs(node: Node) -> bool:
    """Is it certain that a Loop or Scan runs its body?"""
    return _starts(node.call) is True if node.op.name == "Loop" else bool(trips(node))


def trips(node: Node) -> int | None:
    """How often a Loop or Scan runs its body; None where data decides, and where sizes are open."""
    call = node.call
    if node.op.name == "Loop":
        length = 0 if _starts(call) is False else _trip_count(call, call.attrs.body)
    else:
        scanned, m = call.attrs.n_states, call.attrs.num_scan_inputs
        axis = call.axis_of(_listed(call.attrs.scan_input_axes, m)[0], call.rank(scanned))
        length = call.type(scanned).shape[axis]
    return length if isinstance(length, int) else None


def _bound_branches(call: Call, simplified: Callable[[Graph], Graph]) -> dict[str, Graph]:
    found: dict[str, Graph] = {}
    refused: dict[str, GraphcError] = {}
    for key in ("then_branch", "else_branch"):
        try:
            found[key] = simplified(_bound(call.attrs[key], call.inputs[1:], _valid))
        except GraphcError as error:
            refused[key] = error
    if not found:
        raise next(iter(refused.values()))
    valid = next(iter(found.values()))
    return found | {key: raising(call.attrs[key], why, valid) for key, why in refused.items()}


def _bound_loop(call: Call) -> dict[str, Graph]:
    """Where the body runs, the condition that it is given is true."""
    body, n = call.attrs.body, call.attrs.n_states
    counter, going = Value("", TensorType(np.int64, ())), constant("", np.array(True))
    operands = [counter, going, *map(_unknown, call.inputs[2 : 2 + n]), *call.inputs[2 + n :]]
    return {"body": _holding(call, body, operands, 2, 1)}


def _bound_scan(call: Call) -> dict[str, Graph]:
    body, n, m = call.attrs.body, call.attrs.n_states, call.attrs.num_scan_inputs
    elements = []
    for i, axis in zip(range(n, n + m), _listed(call.attrs.scan_input_axes, m)):
        t, axis = call.type(i), call.axis_of(axis, call.rank(i))
        elements.append(Value("", t.with_shape(t.shape[:axis] + t.shape[axis + 1 :])))
    operands = [*map(_unknown, call.inputs[:n]), *elements, *call.inputs[n + m :]]
    return {"body": _holding(call, body, operands, 0, 0)}


def _holding(call: Call, body: Graph, operands: Sequence[Value], first_in: int, first_out: int) -> Graph:
    """The body for types that hold in every iteration."""
    n = call.attrs.n_states
    bound, states = _bound(body, operands), [v.type for v in operands[first_in : first_in + n]]
    if states == [v.type for v in bound.outputs[first_out : first_out + n]]:
        return bound
    rest = operands[first_in + n :]
    elements: Types = [v.type for v in rest[: len(rest) - _captures(call)]]
    found = _carried(call, body, first_out, [v.type for v in operands[:first_in]], states, elements, True)
    if found is None or None in found[1]:
        raise GraphcError("a state has no rank that holds")
    return _bound(body, [*operands[:first_in], *(Value("", t) for t in found[1]), *rest])


def _captures(call: Call) -> int:
    return (
        len(call.attrs.body.inputs)
        - call.attrs.n_states
        - (2 if call.op.name == "Loop" else call.attrs.num_scan_inputs)
    )


def _unknown(v: Value) -> Value:
    return Value(v.name, v.type)


def _bound(graph: Graph, operands: Sequence[Value], specialise: Callable[..., Graph] = specialise) -> Graph:
    """The held graph for operands of these types; those that it reads and that are constants are constants within."""
    read = {v for n in graph.nodes for v in n.operands} | set(graph.outputs)
    data = [x.data if v in read else None for v, x in zip(graph.inputs, operands)]
    return specialise(graph, [x.type for x in operands], data)


register(
    Op(
        "Scan",
        ("*states_then_scanned_then_captures",),
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

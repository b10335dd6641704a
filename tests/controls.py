"""If, Loop and Scan beside the reference backend.

Tests of every backend that compiles them: its own module imports them, and has an autouse fixture that sets WAYS and KERNELS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from nets import agree, weights

import graphc
from graphc.errors import InputError, TypeRuleError
from graphc.graph import Builder, Graph, Value
from graphc.model import Model
from graphc.report import StepInfo

F32, I64 = np.float32, np.int64
VECTOR, SCALAR = ("float32", (8,)), ("int64", ())
Make = Callable[..., Sequence[Value]]


def held(inputs: Sequence[tuple[str, Any, Sequence[int]]], make: Make, name: str = "held") -> Graph:
    """A graph for an attribute; `make` gets the builder and the inputs."""
    b = Builder(name)
    values = [b.input(*i) for i in inputs]
    return b.build({f"{name}.{k}": v for k, v in enumerate(make(b, *values))})


def body(states: Sequence[tuple[Any, Sequence[int]]], make: Make, captures: Sequence[tuple[Any, Sequence[int]]] = ()):
    """Of a Loop: make(builder, counter, condition, *states, *captures)."""
    inputs = [("turn", I64, ()), ("going", bool, ()), *((f"s{i}", *t) for i, t in enumerate(states))]
    return held([*inputs, *((f"c{i}", *t) for i, t in enumerate(captures))], make, "body")


def loop(b: Builder, limit: Value | None, going: Value | None, states: Sequence[Value], captures: Sequence[Value], make: Make, outputs: int, **attrs: Any):  # fmt: skip
    types = [[(v.dtype, v.shape) for v in values] for values in (states, captures)]
    graph = body(types[0], make, types[1])
    made = b.add("Loop", limit, going, *states, *captures, body=graph, n_states=len(states), outputs=outputs, **attrs)
    return made if isinstance(made, tuple) else (made,)


def steps_of(model: Model) -> tuple[StepInfo, ...]:
    return list(model._plans.values())[-1].plan.steps


WAYS: list[dict[str, Any]] = []  # options of `graphc.compile`
KERNELS: dict[str, str] = {}  # what the backend calls a step of a loop, and of a branch


def models(graph: Graph, **options: Any) -> list[Model]:
    assert WAYS
    return [graphc.compile(graph, cache=False, **way, **options) for way in WAYS]


def check(graph: Graph, feeds: Sequence[dict[str, np.ndarray]], kernel: str = "loop", **options: Any) -> None:
    """As the reference; natively, in one plan, with a step of that kernel."""
    oracle = graphc.compile(graph, target="reference")
    for model in models(graph, **options):
        for f in feeds:
            agree(model.run(f), oracle.run(f))
        assert len(model._plans) == 1
        steps = steps_of(model)
        assert not any(s.host for s in steps), [(s.label, s.reason) for s in steps if s.host]
        assert any(s.kernel.startswith(KERNELS[kernel]) for s in steps)


def vector(seed: int = 0, shape: Sequence[int] = (8,)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(F32)


# --- Loop ---------------------------------------------------------------------------------------------------------------
def counted(trips: int | None, stop: int | None = None, start: bool | None = None) -> tuple[Graph, list[dict]]:
    """x times 1.5 in each trip, and the trips' sum. trips: a constant, or an input for None. The condition ends it before
    turn `stop`; start: the first condition."""
    b = Builder("counted")
    x = b.input("x", *VECTOR)
    n = b.input("n", *SCALAR) if trips is None else b.constant(trips, I64)

    def make(i: Builder, turn: Value, going: Value, s: Value, total: Value) -> list[Value]:
        again = going if stop is None else i.add("Less", turn, i.constant(stop - 1, I64))
        return [again, i.add("Mul", s, i.constant(1.5, F32)), i.add("Add", total, turn)]

    going = None if start is None else b.constant(start)
    y, total = loop(b, n, going, [x, b.constant(0, I64)], [], make, 2)
    feeds = [{"x": vector()}] if trips is not None else [{"x": vector(), "n": np.array(n)} for n in (0, 1, 2, 3, 7, -1)]
    return b.build({"y": y, "total": total}), feeds


@pytest.mark.sample(54)
@pytest.mark.parametrize("trips", [None, 0, 1, 2, 5, 6])
@pytest.mark.parametrize("stop", [None, 1, 4])
@pytest.mark.parametrize("start", [None, True, False])
def test_trips(trips: int | None, stop: int | None, start: bool | None):
    check(*counted(trips, stop, start))


def test_a_condition_that_is_an_input_and_no_number_of_trips():
    b = Builder("while")
    x, start = b.input("x", *VECTOR), b.input("start", "bool", ())

    def make(i: Builder, turn: Value, going: Value, s: Value) -> list[Value]:
        doubled = i.add("Add", s, s)
        return [i.add("Less", i.add("ReduceMax", doubled, keepdims=False), i.constant(100, F32)), doubled]

    (y,) = loop(b, None, start, [x], [], make, 1)
    feeds = [{"x": np.abs(vector(k)) * F32(k + 1), "start": np.array(k != 2)} for k in range(5)]
    check(b.build({"y": y}), feeds)


@pytest.mark.parametrize("trips", [0, 1, 2, 5])
def test_states_that_are_swapped_kept_replaced_or_given_twice(trips: int):
    b = Builder("states")
    inputs = [b.input(n, *VECTOR) for n in "pqrstu"]
    outside = b.input("outside", *VECTOR)

    def make(i: Builder, turn: Value, going: Value, p, q, r, s, t, u, c) -> list[Value]:
        both = i.add("Add", p, c)
        return [going, q, p, r, c, both, both]

    results = loop(b, b.constant(trips, I64), None, inputs, [outside], make, 6)
    graph = b.build({f"y{i}": v for i, v in enumerate(results)})
    feeds = [{v.name: vector(i) for i, v in enumerate(graph.inputs)}]
    check(graph, feeds)
    check(graph, feeds, disabled=["unchanged_states"])


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "uint8", "bool", "float16"])
def test_dtypes(dtype: str):
    b = Builder("dtypes")
    x, y, n = b.input("x", dtype, (3, 5)), b.input("y", dtype, (3, 5)), b.input("n", *SCALAR)

    def make(i: Builder, turn: Value, going: Value, s: Value, c: Value) -> list[Value]:
        return [going, i.add("Xor" if dtype == "bool" else "Add", s, c)]

    (z,) = loop(b, n, None, [x], [y], make, 1)
    rng = np.random.default_rng(0)
    arrays = {k: rng.integers(0, 5, (3, 5)).astype(dtype) for k in "xy"}
    check(b.build({"z": z}), [arrays | {"n": np.array(n)} for n in (0, 1, 4)])


def test_a_constant_condition_that_is_false_ends_it_after_one_trip():
    b = Builder("once")
    x = b.input("x", *VECTOR)
    (y,) = loop(b, None, None, [x], [], lambda i, turn, going, s: [i.constant(False), i.add("Neg", s)], 1)
    check(b.build({"y": y}), [{"x": vector()}])


def test_collected_results_of_a_known_number_of_trips():
    b = Builder("collects")
    x = b.input("x", "float32", (3, 4))

    def make(i: Builder, turn: Value, going: Value, s: Value) -> list[Value]:
        grown = i.add("Mul", s, i.constant(1.1, F32))
        flat = i.add("Reshape", grown, i.constant([12], I64))
        return [going, grown, grown, flat, turn, i.constant([1.5, 2], F32), i.add("Transpose", s)]

    results = loop(b, b.constant(5, I64), b.constant(True), [x], [], make, 6)
    check(b.build({f"y{i}": v for i, v in enumerate(results)}), [{"x": vector(0, (3, 4))}])


@pytest.mark.parametrize("room", [None, 2])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_collected_results_of_as_many_trips_as_data_says(room: int | None, ends: bool, constant: bool, monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    """The body is compiled, and computes so many trips at a time."""
    if room:
        monkeypatch.setattr("graphc.loop_rows.MOST_ROWS", room)
    b = Builder("collects")
    x, n = b.input("x", *VECTOR), b.input("n", *SCALAR)
    limit = b.constant(5, I64) if constant and ends else n
    start = b.constant(np.ones(8), F32) if constant else x

    def make(i: Builder, turn: Value, going: Value, s: Value, c: Value) -> list[Value]:
        new = i.add("Add", s, c)
        again = i.add("Less", i.add("ReduceSum", new, keepdims=False), i.constant(40, F32)) if ends else going
        return [again, new, turn, i.add("Tanh", new)]

    last, turns, rows = loop(b, limit, None, [start], [b.add("Abs", x)], make, 3)
    total = b.add("ReduceSum", rows, b.constant([0], I64), keepdims=False)
    graph = b.build({"last": last, "turns": turns, "rows": rows, "total": total})
    oracle = graphc.compile(graph, target="reference")
    for model in models(graph):
        for k in (0, 1, 2, 3, 4, 6, 9):
            feeds = {"x": vector(), "n": np.array(k)}
            agree(model.run(feeds), oracle.run(feeds))
        assert not any(s.host for s in steps_of(model))
        assert ("LoopRows",) in [s.ops for s in steps_of(model)]


def test_without_the_passes_over_bodies():
    graph, feeds = counted(None)
    check(graph, feeds, disabled=["held_graphs"])


def test_results_that_nobody_reads():
    b = Builder("unread")
    x = b.input("x", *VECTOR)

    def make(i: Builder, turn: Value, going: Value, s: Value, t: Value) -> list[Value]:
        return [going, i.add("Add", s, t), i.add("Neg", t), i.add("Exp", s)]

    y = loop(b, b.constant(3, I64), None, [x, x], [], make, 1)[0]
    check(b.build({"y": y}), [{"x": vector()}])


def test_images_and_recurrent_layers_within():
    b = Builder("window")
    x = b.input("x", "float32", (1, 8, 12, 12))

    def make(i: Builder, turn: Value, going: Value, s: Value) -> list[Value]:
        y = i.add("Relu", i.add("Conv", s, weights(i, 8, 8, 3, 3), pads=[1] * 4))
        return [going, i.add("Add", i.add("Conv", y, weights(i, 8, 8, 3, 3), pads=[1] * 4), s)]

    (y,) = loop(b, b.constant(3, I64), None, [x], [], make, 1)
    check(b.build({"y": y}), [{"x": vector(0, (1, 8, 12, 12))}])


# --- Scan -----------------------------------------------------------------------------------------------------------------
@pytest.mark.sample(36)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("back", [0, 1])
@pytest.mark.parametrize("out_axis", [0, 1, -1])
@pytest.mark.parametrize("out_back", [0, 1])
def test_scans(axis: int, back: int, out_axis: int, out_back: int):
    b = Builder("scan")
    s, x, z = b.input("s", "float32", (4, 6)), b.input("x", "float32", (5, 5, 5)), b.input("z", "float32", (5, 4, 6))
    c = b.input("c", "float32", (5, 6))

    def make(i: Builder, s: Value, e: Value, f: Value, c: Value) -> list[Value]:
        new = i.add("Add", i.add("Mul", s, i.constant(0.5, F32)), f)
        return [new, i.add("MatMul", e, c), new]

    types = [("s", "float32", (4, 6)), ("e", "float32", (5, 5)), ("f", "float32", (4, 6)), ("c", "float32", (5, 6))]
    results = b.add(
        "Scan", s, x, z, c, body=held(types, make), n_states=1, num_scan_inputs=2, outputs=3, scan_input_axes=[axis, 0],
        scan_input_directions=[back, 1 - back], scan_output_axes=[out_axis, 0], scan_output_directions=[out_back, 1],
    )  # fmt: skip
    graph = b.build({f"y{i}": v for i, v in enumerate(results)})
    check(graph, [{v.name: vector(i, v.shape) for i, v in enumerate(graph.inputs)}])


BODIES: dict[str, tuple[tuple[int, ...], Callable[[Builder, Value], Value]]] = {
    "Conv": ((2, 8, 9, 9), lambda i, e: i.add("Relu", i.add("Conv", e, weights(i, 16, 8, 3, 3), pads=[1] * 4))),
    "MaxPool": ((2, 8, 9, 9), lambda i, e: i.add("MaxPool", e, kernel_shape=[2, 2])),
    "MatMul": ((5, 16), lambda i, e: i.add("MatMul", e, weights(i, 16, 12))),
    "own product": ((5, 16), lambda i, e: i.add("MatMul", e, i.add("Transpose", e))),
    "Softmax": ((5, 16), lambda i, e: i.add("Softmax", e)),
    "ReduceMax": ((5, 16), lambda i, e: i.add("ReduceMax", e, i.constant([0], I64))),
    "Gather": ((5, 16), lambda i, e: i.add("Gather", e, i.constant([3, 0, -1], I64), axis=1)),
    "TopK": ((5, 16), lambda i, e: i.add("TopK", e, i.constant([3], I64), outputs=2)[0]),
    "CumSum": ((5, 16), lambda i, e: i.add("CumSum", e, i.constant(1, I64))),
    "Pad": ((5, 16), lambda i, e: i.add("Pad", e, i.constant([1, 0, 0, 2], I64))),
    "Split": ((5, 16), lambda i, e: i.add("Split", e, outputs=2, axis=1, num_outputs=2)[1]),
    "LayerNormalization": ((5, 16), lambda i, e: i.add("LayerNormalization", e, weights(i, 16), weights(i, 16))),
    "Concat": ((5, 16), lambda i, e: i.add("Concat", e, i.add("Neg", e), axis=0)),
    "Identity": ((5, 16), lambda i, e: e),
}


@pytest.mark.sample(84)
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("out_axis", [0, 1])
def test_what_bodies_do_with_elements(name: str, axis: int, out_axis: int):
    shape, make = BODIES[name]
    at = axis % (len(shape) + 1)
    b = Builder("elements")
    x = b.input("x", "float32", (*shape[:at], 3, *shape[at:]))
    y = b.add(
        "Scan", x, body=held([("e", "float32", shape)], lambda i, e: [make(i, e)]), n_states=0, num_scan_inputs=1,
        scan_input_axes=[axis], scan_input_directions=[1], scan_output_axes=[out_axis], scan_output_directions=[1],
    )  # fmt: skip
    check(b.build({"y": y}), [{"x": vector(0, x.shape)}])


def test_a_scan_without_states_and_a_map():
    b = Builder("map")
    x = b.input("x", "float32", (7, 3))
    types = [("e", "float32", (3,))]
    y = b.add("Scan", x, body=held(types, lambda i, e: [i.add("Exp", e)]), n_states=0, num_scan_inputs=1)
    check(b.build({"y": y}), [{"x": vector(0, (7, 3))}])


# --- If ---------------------------------------------------------------------------------------------------------------
def branch(b: Builder, condition: Value, captures: Sequence[Value], yes: Make, no: Make, outputs: int = 1) -> Any:
    inputs = [(f"c{i}", v.dtype, v.shape) for i, v in enumerate(captures)]
    graphs = {"then_branch": held(inputs, yes, "yes"), "else_branch": held(inputs, no, "no")}
    return b.add("If", condition, *captures, outputs=outputs, **graphs)


def both(condition: str, feeds: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    return [feeds | {condition: np.array(c)} for c in (True, False, True)]


def test_both_branches_are_compiled_at_once():
    b = Builder("if")
    p, x, z = b.input("p", "bool", ()), b.input("x", "float32", (3, 8)), b.input("z", "float32", (3, 8))
    results = branch(
        b, p, [b.add("Relu", x), z],
        lambda i, x, z: [i.add("MatMul", x, weights(i, 8, 8)), z, x, i.constant([1, 2], I64)],
        lambda i, x, z: [z, i.add("Neg", z), i.add("Reshape", i.add("Exp", x), i.constant([3, 8], I64)), i.constant([3, 4], I64)],
        outputs=4,
    )  # fmt: skip
    graph = b.build({f"y{i}": v for i, v in enumerate(results)})
    check(graph, both("p", {"x": vector(0, (3, 8)), "z": vector(1, (3, 8))}), "branch")


def test_branches_of_other_types_are_planned_one_by_one():
    b = Builder("if")
    p, x = b.input("p", "bool", ()), b.input("x", "float32", (3, 8))
    y = branch(b, p, [x], lambda i, x: [x], lambda i, x: [i.add("Flatten", x, axis=0)])
    for model in models(b.build({"y": y})):
        for feeds in both("p", {"x": vector(0, (3, 8))}):
            assert model.run(feeds)["y"].shape == ((3, 8) if feeds["p"] else (1, 24))


def only_of_five(i: Builder, x: Value) -> list[Value]:
    return [i.add("Add", x, i.constant(np.arange(5), F32))]


def test_a_branch_that_does_not_fit_raises_where_it_is_taken():
    b = Builder("if")
    p, x = b.input("p", "bool", ()), b.input("x", "float32", (3, "n"))
    graph = b.build({"y": branch(b, p, [x], lambda i, x: [i.add("Neg", x)], only_of_five)})
    wide, five = vector(0, (3, 8)), vector(1, (3, 5))
    for model in models(graph):
        for _ in range(2):
            np.testing.assert_array_equal(model.run({"p": np.array(True), "x": wide})["y"], -wide)
            with pytest.raises(TypeRuleError, match="do not broadcast"):
                model.run({"p": np.array(False), "x": wide})
        assert not any(s.host for s in steps_of(model))
        assert any(s.kernel.startswith(KERNELS["branch"]) for s in steps_of(model))
        for feeds in both("p", {"x": five}):
            np.testing.assert_array_equal(
                model.run(feeds)["y"], -five if feeds["p"] else five + np.arange(5, dtype=F32)
            )


def test_both_branches_do_not_fit():
    b = Builder("if")
    p, x = b.input("p", "bool", ()), b.input("x", "float32", (3, "n"))
    graph = b.build({"y": branch(b, p, [x], only_of_five, only_of_five)})
    for model in models(graph):
        with pytest.raises(TypeRuleError, match="do not broadcast"):
            model.plan({"x": (3, 8)})


def test_a_branch_within_a_loop_that_does_not_fit():
    """The third trip takes it."""
    b = Builder("loop")
    x, n = b.input("x", "float32", (3, "n")), b.input("trips", *SCALAR)

    def trip(i: Builder, turn: Value, going: Value, s: Value) -> list[Value]:
        early = i.add("Less", turn, i.constant(2, I64))
        return [going, branch(i, early, [s], lambda k, s: [k.add("Neg", s)], only_of_five)]

    (y,) = loop(b, n, None, [x], [], trip, 1)
    wide = vector(0, (3, 8))
    for model in models(b.build({"y": y})):
        for trips in (2, 1, 3, 0, 5, 2):
            feeds = {"x": wide, "trips": np.array(trips)}
            if trips < 3:
                np.testing.assert_array_equal(model.run(feeds)["y"], wide * (-1) ** trips)
            else:
                with pytest.raises(TypeRuleError, match="do not broadcast"):
                    model.run(feeds)
        assert not any(s.host for s in steps_of(model)), [(s.label, s.reason) for s in steps_of(model)]


# --- one within another ------------------------------------------------------------------------------------------------
def test_a_branch_in_a_loop_in_a_branch_in_a_scan():
    b = Builder("nested")
    x, p, n = b.input("x", "float32", (6, 8)), b.input("p", "bool", ()), b.input("n", *SCALAR)
    outside = b.add("Exp", b.input("z", *VECTOR))

    def trip(i: Builder, turn: Value, going: Value, s: Value, c: Value) -> list[Value]:
        large = i.add("Greater", i.add("ReduceSum", s, keepdims=False), i.constant(0, F32))
        new = branch(i, large, [s, c], lambda k, s, c: [k.add("Sub", s, c)], lambda k, s, c: [k.add("Add", s, c)])
        return [i.add("Less", turn, i.constant(5, I64)), new]

    def yes(i: Builder, e: Value, s: Value, n: Value, c: Value) -> list[Value]:
        return list(loop(i, n, None, [i.add("Add", e, s)], [c], trip, 1))

    def element(i: Builder, s: Value, e: Value, p: Value, n: Value, c: Value) -> list[Value]:
        new = branch(i, p, [e, s, n, c], yes, lambda k, e, s, n, c: [k.add("Mul", e, s)])
        return [new, new]

    types = [("s", *VECTOR), ("e", *VECTOR), ("p", "bool", ()), ("n", *SCALAR), ("c", *VECTOR)]
    start = b.constant(np.zeros(8), F32)
    last, rows = b.add(
        "Scan", start, x, p, n, outside, body=held(types, element), n_states=1, num_scan_inputs=1, outputs=2
    )
    graph = b.build({"last": last, "rows": rows})
    feeds = {"x": vector(0, (6, 8)), "z": vector(1)}
    check(graph, [f | {"n": np.array(n)} for n in (0, 3, 9) for f in both("p", feeds)])


def test_a_heavy_loop_in_a_loop():
    b = Builder("nested")
    x, n = b.input("x", "float32", (64, 256)), b.input("n", *SCALAR)

    def inner(i: Builder, turn: Value, going: Value, s: Value) -> list[Value]:
        return [going, i.add("Tanh", i.add("MatMul", s, weights(i, 256, 256)))]

    def outer(i: Builder, turn: Value, going: Value, s: Value, n: Value) -> list[Value]:
        return [going, *loop(i, n, None, [i.add("Neg", s)], [], inner, 1)]

    (y,) = loop(b, n, None, [x], [n], outer, 1)
    check(b.build({"y": y}), [{"x": vector(0, (64, 256)), "n": np.array(n)} for n in (0, 1, 3)])


# --- what goes wrong, and what is not compiled ---------------------------------------------------------------------------
def gathers(inner: bool = False) -> Graph:
    """A row of x per trip, at positions that are an input; a second Gather never fails."""
    b = Builder("gathers")
    x, at = b.input("x", "float32", (4, 8)), b.input("at", "int64", (6,))

    def make(i: Builder, turn: Value, going: Value, s: Value, x: Value, at: Value) -> list[Value]:
        row = i.add("Gather", at, turn, axis=0, name="position")
        new = i.add("Add", s, i.add("Gather", x, row, axis=0, name="pick"))
        return [going, new, new]

    def outer(i: Builder, turn: Value, going: Value, s: Value, x: Value, at: Value) -> list[Value]:
        return [going, *loop(i, i.constant(6, I64), None, [s], [x, at], make, 1)]

    start = b.constant(np.zeros(8), F32)
    y = loop(b, b.constant(2 if inner else 6, I64), None, [start], [x, at], outer if inner else make, 1)[0]
    return b.build({"y": y})


@pytest.mark.parametrize("inner", [False, True])
def test_positions_out_of_range_are_reported_by_the_node_within(inner: bool):
    graph = gathers(inner)
    oracle, x = graphc.compile(graph, target="reference"), vector(0, (4, 8))
    for model in models(graph):
        for at in ([0, 1, 2, 3, -4, 1], [0, 1, 7, 3, 2, 1], [0, 1, 2, 3, 3, -5], [1] * 6):
            feeds = {"x": x, "at": np.array(at)}
            bad = [a for a in at if not -4 <= a < 4]
            if not bad:
                agree(model.run(feeds), oracle.run(feeds))
                continue
            with pytest.raises(InputError) as error:
                model.run(feeds)
            assert error.value.node == "pick" and str(bad[0]) in str(error.value)


def test_a_position_out_of_range_ends_a_loop_that_would_not_end():
    b = Builder("endless")
    x, at = b.input("x", "float32", (4,)), b.input("at", *SCALAR)

    def make(i: Builder, turn: Value, going: Value, s: Value, at: Value) -> list[Value]:
        value = i.add("Gather", s, i.add("Add", at, turn), axis=0, name="pick")
        return [i.add("Less", value, i.constant(5, F32)), i.add("Abs", s)]

    (y,) = loop(b, None, None, [x], [at], make, 1)
    for model in models(b.build({"y": y})):
        model.run({"x": np.float32([1, 2, 3, 9]), "at": np.array(1)})
        for _ in range(2):
            with pytest.raises(InputError, match="pick"):
                model.run({"x": np.float32([1, 2, 3, 4]), "at": np.array(1)})


def test_a_state_whose_shape_changes_runs_as_before():
    b = Builder("grows")
    x = b.input("x", *VECTOR)
    make: Make = lambda i, turn, going, s: [going, i.add("Concat", s, s, axis=0)]  # noqa: E731
    (y,) = loop(b, b.constant(3, I64), None, [x], [], make, 1)
    graph = b.build({"y": y})
    for model in models(graph):
        agree(model.run({"x": vector()}), graphc.compile(graph, target="reference").run({"x": vector()}))


# --- random programs ------------------------------------------------------------------------------------------------------
UNARY, BINARY = ("Neg", "Tanh", "Relu", "Abs"), ("Add", "Sub", "Max", "Min")


class Draw:
    """Random graphs over values of one shape and an integer."""

    def __init__(self, draw: st.DrawFn, shape: tuple[int, ...]) -> None:
        self.draw, self.shape = draw, shape

    def one(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def some(self, b: Builder, values: list[Value], n: Value, depth: int) -> list[Value]:
        """More values."""
        values = list(values)
        for _ in range(self.draw(st.integers(0, 3))):
            kind = self.one(
                [
                    "unary",
                    "binary",
                    "view",
                    *(["rows"] if self.shape else []),
                    *(["loop", "if", "scan"] if depth else []),
                ]
            )
            values += getattr(self, kind.replace("if", "branch"))(b, values, n, depth)
        return values

    def unary(self, b: Builder, values: list[Value], n: Value, depth: int) -> list[Value]:
        return [b.add(self.one(UNARY), self.one(values))]

    def binary(self, b: Builder, values: list[Value], n: Value, depth: int) -> list[Value]:
        return [b.add(self.one(BINARY), self.one(values), self.one(values))]

    def view(self, b: Builder, values: list[Value], n: Value, depth: int) -> list[Value]:
        flat = b.add("Reshape", self.one(values), b.constant([-1], I64))
        return [b.add("Reshape", flat, b.constant(self.shape, I64))]

    def rows(self, b: Builder, values: list[Value], n: Value, depth: int) -> list[Value]:
        """Kernels that want their operands in one piece."""
        x, y = self.one(values), self.one(values)
        kinds = ["softmax", "sum", "largest", *(["product", "transposed"] if self.shape[0] == self.shape[-1] else [])]
        match self.one(kinds):
            case "softmax":
                return [b.add("Softmax", x, axis=self.draw(st.integers(-1, len(self.shape) - 1)))]
            case "sum":
                return [
                    b.add("CumSum", b.add("Tanh", x), b.constant(self.draw(st.integers(0, len(self.shape) - 1)), I64))
                ]
            case "largest":
                return [b.add("Sub", x, b.add("ReduceMax", y, b.constant([-1], I64), keepdims=True))]
            case "product" if len(self.shape) == 2:
                return [b.add("Tanh", b.add("MatMul", x, y))]
        return [b.add("Transpose", x)]

    def condition(self, b: Builder, v: Value) -> Value:
        return b.add("Less", b.add("ReduceSum", v, keepdims=False), b.constant(self.one([-2.0, 0.0, 3.0]), F32))

    def branch(self, b: Builder, values: list[Value], n: Value, depth: int) -> list[Value]:
        def make(i: Builder, *given: Value) -> list[Value]:
            return [self.one(self.some(i, list(given[1:]), given[0], depth - 1)) for _ in range(2)]

        captures = [n, *(self.one(values) for _ in range(2))]
        return list(branch(b, self.condition(b, self.one(values)), captures, make, make, 2))

    def loop(self, b: Builder, values: list[Value], n: Value, depth: int) -> list[Value]:
        known, ends = self.draw(st.booleans()), self.draw(st.booleans())
        collects = known and not ends

        def make(i: Builder, turn: Value, going: Value, p: Value, q: Value, n: Value, c: Value) -> list[Value]:
            inside = self.some(i, [p, q, c], self.one([n, turn]), depth - 1)
            again = self.condition(i, self.one(inside)) if ends else going
            return [again, *(self.one(inside) for _ in range(3 if collects else 2))]

        limit = b.constant(self.draw(st.integers(0, 4)), I64) if known else n
        states = [self.one(values) for _ in range(2)]
        made = loop(b, limit, None, states, [n, self.one(values)], make, 3 if collects else 2)
        return [*made[:2], *([b.add("ReduceSum", made[2], b.constant([0], I64), keepdims=False)] if collects else [])]

    def scan(self, b: Builder, values: list[Value], n: Value, depth: int) -> list[Value]:
        axis, out = self.draw(st.integers(0, len(self.shape) - 1)), self.draw(st.integers(0, len(self.shape) - 1))
        row = self.shape[:axis] + self.shape[axis + 1 :]
        if self.shape[out] != self.shape[axis]:
            out = axis

        def make(i: Builder, s: Value, e: Value) -> list[Value]:
            sub = Draw(self.draw, row)
            made = sub.some(i, [e, i.add("Tanh", i.add("Mul", e, s))], n, 0)
            return [i.add(self.one(BINARY), s, i.add("Tanh", i.add("ReduceSum", made[-1], keepdims=False))), made[-1]]

        types = [("s", "float32", ()), ("e", "float32", row)]
        _, rows = b.add(
            "Scan", b.constant(1.0, F32), self.one(values), body=held(types, make), n_states=1, num_scan_inputs=1,
            scan_input_axes=[axis], scan_input_directions=[self.one([0, 1])], scan_output_axes=[out],
            scan_output_directions=[self.one([0, 1])], outputs=2,
        )  # fmt: skip
        return [rows] if rows.shape == self.shape else []


@st.composite
def programs(draw: st.DrawFn) -> Graph:
    shape = draw(st.sampled_from([(3, 3), (2, 5), (4,), (1, 1)]))
    b, d = Builder("random"), Draw(draw, shape)
    x, y, n = b.input("x", "float32", shape), b.input("y", "float32", shape), b.input("n", *SCALAR)
    values = [x, y, b.constant(np.linspace(-1, 1, int(np.prod(shape))).reshape(shape), F32)]
    values += d.loop(b, values, n, 2)
    values = d.some(b, values, n, 2)
    return b.build({f"r{i}": v for i, v in enumerate(values[-4:])})

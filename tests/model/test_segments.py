"""Graphs whose shapes follow from data: native work, a look at the data, native work that fits it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from nets import agree, weights

import graphc
from graphc.backends.cpu import checked
from graphc.backends.reference import run as reference
from graphc.errors import GraphcError, InputError
from graphc.executable import MAX_PLANS
from graphc.graph import Builder, Graph, Value
from graphc.model import Model
from graphc.report import Plan

F32 = np.float32
Make = Callable[[Builder, Value], Value]


def ints(b: Builder, *numbers: int) -> Value:
    return b.constant(numbers, np.int64)


def before(b: Builder, x: Value) -> Value:
    """Native work on x [n, 8]: [n, 8]."""
    return b.add("Tanh", b.add("MatMul", x, weights(b, 8, 8)))


def after(b: Builder, x: Value) -> Value:
    """Native work on x [m, 8]: [m, 4]."""
    return b.add("Softmax", b.add("MatMul", b.add("Relu", x), weights(b, 8, 4)))


def positive_rows(b: Builder, x: Value) -> Value:
    """Indices [m] of the rows of x whose sum is positive."""
    total = b.add("ReduceSum", x, ints(b, 1), keepdims=False)
    return b.add("Squeeze", b.add("NonZero", b.add("Greater", total, b.constant(0, F32))), ints(b, 0))


def nonzero(b: Builder, x: Value) -> Value:
    return b.add("Gather", x, positive_rows(b, x), axis=0)


def compress(b: Builder, x: Value) -> Value:
    total = b.add("ReduceSum", x, ints(b, 1), keepdims=False)
    return b.add("Compress", x, b.add("Greater", total, b.constant(0, F32)), axis=0)


def unique(b: Builder, x: Value) -> Value:
    signs = b.add("Cast", b.add("Greater", x, b.constant(0.3, F32)), to="float32")
    return b.add("Unique", signs, axis=0, outputs=["rows", "first", "inverse", "counts"])[0]


def suppression(b: Builder, x: Value) -> Value:
    """x [n, 8] as n boxes and their scores: the rows of the boxes that stay."""
    corners = b.add("Slice", x, ints(b, 0), ints(b, 4), ints(b, 1))
    scores = b.add("Unsqueeze", b.add("Transpose", b.add("Slice", x, ints(b, 4), ints(b, 6), ints(b, 1))), ints(b, 0))
    kept = b.add(
        "NonMaxSuppression", b.add("Unsqueeze", corners, ints(b, 0)), scores,
        ints(b, 3), b.constant([0.4], F32), b.constant([0.1], F32),
    )  # fmt: skip
    return b.add("Gather", x, b.add("Squeeze", b.add("Gather", kept, ints(b, 2), axis=1), ints(b, 1)), axis=0)


def held(name: str, inputs: list[tuple], make: Callable[..., list[Value]]) -> Graph:
    """A graph for an attribute; `make` gets the builder and the inputs (name, dtype, shape)."""
    b = Builder(name)
    values = [b.input(*i) for i in inputs]
    return b.build({f"{name}.{k}": v for k, v in enumerate(make(b, *values))})


def loop(b: Builder, x: Value) -> Value:
    """As many copies of the rows as a number that depends on x says, each scaled by its turn."""

    def body(i: Builder, turn: Value, go: Value, total: Value, rows: Value) -> list[Value]:
        scaled = i.add("Mul", rows, i.add("Cast", turn, to="float32"))
        return [i.add("Identity", go), i.add("Add", total, scaled), scaled]

    rows = ("rows", F32, x.shape)
    inputs = [("turn", np.int64, ()), ("go", bool, ()), ("total", F32, x.shape), rows]
    turns = b.add("Cast", b.add("Mul", b.add("ReduceMax", x, keepdims=False), b.constant(6, F32)), to="int64")
    turns = b.add("Max", turns, b.constant(1, np.int64))
    _, collected = b.add("Loop", turns, None, x, x, body=held("body", inputs, body), n_states=1, outputs=2)
    return b.add("Reshape", collected, ints(b, -1, 8))


def branch(b: Builder, x: Value) -> Value:
    """All rows, or two of them and doubled, as the sum says."""
    condition = b.add("Greater", b.add("ReduceSum", x, keepdims=False), b.constant(0, F32))

    def short(i: Builder, rows: Value) -> list[Value]:
        first = i.add("Slice", rows, ints(i, 0), ints(i, 2), ints(i, 0))
        return [i.add("Mul", first, i.constant(2, F32))]

    capture = [("rows", F32, x.shape)]
    return b.add(
        "If", condition, x,
        then_branch=held("then", capture, lambda i, rows: [i.add("Neg", rows)]), else_branch=held("else", capture, short),
    )  # fmt: skip


def twice(b: Builder, x: Value) -> Value:
    """Two looks, the second at what the first has left; the sizes of both meet."""
    rows = nonzero(b, x)
    squares = b.add("MatMul", rows, weights(b, 8, 8))
    return b.add("Concat", nonzero(b, squares), rows, b.add("Neg", x), axis=0)


def sliced(b: Builder, x: Value) -> Value:
    """The first m rows, m a number computed from x."""
    count = b.add("Cast", b.add("ReduceSum", b.add("Abs", x), keepdims=False), to="int64")
    count = b.add("Unsqueeze", b.add("Mod", count, b.constant(7, np.int64)), ints(b, 0))
    return b.add("Slice", x, ints(b, 0), count, ints(b, 0))


MIDDLES: dict[str, tuple[Make, str]] = {
    "NonZero": (nonzero, None),
    "Compress": (compress, None),
    "Unique": (unique, None),
    "NonMaxSuppression": (suppression, None),
    "Loop": (loop, None),
    "If": (branch, None),
    "two looks": (twice, None),
    "Slice": (sliced, ""),
}


def graph(make: Make, rows: int | str = 6) -> Graph:
    b = Builder("middle")
    x = b.input("x", F32, (rows, 8))
    h = before(b, x)
    return b.build({"y": after(b, make(b, h)), "h": h})


def data(seed: int, rows: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.uniform(-1, 1, (rows, 8)) + rng.uniform(-0.5, 0.5, (rows, 1))).astype(F32)


def last_plan(model: Model) -> Plan:
    return list(model._plans.values())[-1].plan


@pytest.mark.parametrize("name", MIDDLES)
@pytest.mark.parametrize("rows", [6, "n"])
def test_results_follow_the_data(name: str, rows: int | str):
    make, _ = MIDDLES[name]
    g = graph(make, rows)
    model = graphc.compile(g)
    shapes = set()
    for seed in range(8):
        x = data(seed, 6 if rows == 6 else 4 + seed % 3)
        want = reference(g, {"x": x})
        shapes.add(want["y"].shape)
        agree(model.run({"x": x}), want)
    assert len(shapes) > 1, "the data of this test must give several shapes"
    if checked.wanted():  # then every plan is for one shape
        return
    if rows == 6 or name != "Loop":  # one that collects rows is planned for its shapes alone
        assert len(model._plans) == 1 and len(model._many) <= 2


@pytest.mark.parametrize("name", MIDDLES)
def test_steps_say_what_ran_on_the_host_and_why(name: str):
    make, host = MIDDLES[name]
    model = graphc.compile(graph(make))
    model(data(1))
    steps = last_plan(model).steps
    assert [s.index for s in steps] == list(range(len(steps)))
    hosted = [s for s in steps if s.host]
    assert {o for s in hosted for o in s.ops} >= ({host} if host else set())
    assert all(s.reason and s.kernel == "host" for s in hosted)
    native = [o for s in steps if not s.host for o in s.ops]
    assert native.index("MatMul") < native.index("Softmax"), "native work before and after"


def test_nothing_is_found():
    """Sizes of zero behind a look."""
    g = graph(nonzero)
    model = graphc.compile(g)
    found = set()
    for offset in (0.0, -9.0, 9.0):
        x = data(0) * 0.01 + F32(offset)
        want = reference(g, {"x": x})
        found.add(want["y"].shape[0])
        agree(model.run({"x": x}), want)
    assert len(found) > 1


def test_branches_of_equal_types_are_one_step():
    b = Builder("if")
    x = b.input("x", F32, (3, 8))
    condition = b.add("Greater", b.add("ReduceSum", x, keepdims=False), b.constant(0, F32))
    capture = [("rows", F32, (3, 8))]
    yes = held("then", capture, lambda i, rows: [i.add("Exp", rows)])
    no = held("else", capture, lambda i, rows: [i.add("Neg", rows)])
    y = b.add("If", condition, before(b, x), then_branch=yes, else_branch=no)
    g = b.build({"y": after(b, y)})
    model = graphc.compile(g)
    for x in (data(0, 3) + F32(2), data(0, 3) - F32(2)) * 2:
        agree(model.run({"x": x}), reference(g, {"x": x}))
    steps = last_plan(model).steps
    assert not any(s.host for s in steps)
    (step,) = [s for s in steps if s.ops == ("If",)]
    labels = [label for label, *_ in step.inside]
    assert any("then" in x and "Exp" in x for x in labels) and any("else" in x and "Neg" in x for x in labels)


def test_the_branch_that_is_taken_is_compiled():
    b = Builder("if")
    x = b.input("x", F32, (3, 8))
    condition = b.add("Greater", b.add("ReduceSum", x, keepdims=False), b.constant(0, F32))
    capture = [("rows", F32, (3, 8))]
    yes = held("then", capture, lambda i, rows: [i.add("Exp", rows)])
    no = held("else", capture, lambda i, rows: [i.add("Neg", i.add("Slice", rows, ints(i, 0), ints(i, 2), ints(i, 0)))])
    y = b.add("If", condition, before(b, x), then_branch=yes, else_branch=no)
    g = b.build({"y": after(b, y)})
    model = graphc.compile(g)
    for first in (True, False):
        for x, taken in ((data(0, 3) + F32(2), "Exp"), (data(0, 3) - F32(2), "Neg")):
            agree(model.run({"x": x}), reference(g, {"x": x}))
            steps = last_plan(model).steps
            assert not any(s.host for s in steps)
            ops = {o for s in steps for o in s.ops}
            assert not first or taken in ops and not {"If", *({"Exp", "Neg"} - {taken})} & ops
    (executable,) = model._plans.values()
    assert len(executable.plans._kept) == 2


def test_branches_in_branches_captures_and_several_results():
    b = Builder("if")
    x, p, q = b.input("x", F32, (3, 8)), b.input("p", "bool", ()), b.input("q", "bool", ())
    capture = [("rows", F32, (3, 8)), ("q", "bool", ())]
    inner = {
        "then_branch": held("inner_then", capture[:1], lambda i, rows: [i.add("Exp", rows)]),
        "else_branch": held("inner_else", capture[:1], lambda i, rows: [rows]),
    }
    yes = held("then", capture, lambda i, rows, q: [i.add("If", q, rows, **inner), i.constant(np.float32([1, 2]))])
    no = held(
        "else", capture, lambda i, rows, q: [i.add("Neg", rows), i.add("ReduceSum", rows, ints(i, 1), keepdims=False)]
    )
    y, z = b.add("If", p, b.add("Relu", x), q, then_branch=yes, else_branch=no, outputs=2)
    g = b.build({"y": b.add("Mul", y, y), "z": z})
    model = graphc.compile(g)
    for p_, q_ in ((True, True), (True, False), (False, True), (False, False)):
        feeds = {"x": data(1, 3), "p": np.array(p_), "q": np.array(q_)}
        agree(model.run(feeds), reference(g, feeds))
        assert not any(s.host for s in last_plan(model).steps)


def test_a_known_condition_leaves_one_branch():
    b = Builder("if")
    x, capture = b.input("x", F32, (3, 8)), [("rows", F32, (3, 8))]
    yes = held("then", capture, lambda i, rows: [i.add("Exp", rows)])
    no = held("else", capture, lambda i, rows: [i.add("Slice", rows, ints(i, 0), ints(i, 1))])
    y = b.add("If", b.constant(False), x, then_branch=yes, else_branch=no)
    g = b.build({"y": y})
    x = data(0, 3)
    agree(graphc.compile(g).run({"x": x}), reference(g, {"x": x}))


def test_images_that_decide_a_size_are_data_and_not_shapes():
    """The model has one plan and runs natively, not one for each image."""
    b = Builder("detector")
    x = b.input("x", F32, (1, 3, 16, 16))
    y = b.add("Relu", b.add("Conv", x, weights(b, 16, 3, 3, 3), pads=[1] * 4))
    y = b.add("Reshape", y, ints(b, 32, 128))
    count = b.add("Cast", b.add("ReduceMax", b.add("Mul", y, b.constant(8, F32)), keepdims=False), to="int64")
    kept = b.add("Slice", y, ints(b, 0), b.add("Unsqueeze", count, ints(b, 0)), ints(b, 0))
    g = b.build({"kept": b.add("Sqrt", kept)})
    model = graphc.compile(g)
    rng, shapes = np.random.default_rng(0), set()
    for _ in range(6):
        image = rng.uniform(-1, 1, (1, 3, 16, 16)).astype(F32) * F32(rng.uniform(0.2, 1))
        want = reference(g, {"x": image})
        shapes.add(want["kept"].shape)
        agree(model.run({"x": image}), want)
    assert len(shapes) > 1 and len(model._plans) == 1
    assert "Conv" in {o for s in last_plan(model).steps for o in s.ops if not s.host}


def test_suffixes_of_many_shapes_do_not_fill_the_memory():
    b = Builder("many")
    x = b.input("x", F32, (MAX_PLANS + 20,))
    model = graphc.compile(b.build({"y": b.add("Neg", b.add("Compress", x, b.add("Greater", x, b.constant(0, F32))))}))
    for n in range(MAX_PLANS + 20):
        x = np.where(np.arange(MAX_PLANS + 20) < n, F32(1), F32(-1))
        np.testing.assert_array_equal(model(x), np.full(n, -1, F32))
    (executable,) = model._plans.values()
    if checked.wanted():
        assert len(executable.plans._kept) == MAX_PLANS
        return
    assert len(executable.plans._kept) == 2, "no element, and one"
    assert len(executable.plans._many) == 1, "all others"


def test_results_into_given_arrays():
    g = graph(nonzero)
    model, x = graphc.compile(g), data(3)
    want = reference(g, {"x": x})
    y, h = np.empty_like(want["y"]), np.empty_like(want["h"])
    results = model.run({"x": x}, out={"y": y, "h": h})
    assert results["y"] is y and results["h"] is h
    agree(results, want)
    with pytest.raises(InputError, match=r"output 'y' is float32\[50, 4\]"):
        model.run({"x": x}, out={"y": np.empty((50, 4), F32)})


def test_results_are_the_callers_own():
    b = Builder("own")
    x = b.input("x", F32, (6, 8))
    kept = compress(b, x)
    g = b.build({"kept": kept, "again": kept, "x": x, "h": b.add("Neg", x)})
    model, x = graphc.compile(g), data(5)
    first = model.run({"x": x})
    arrays = [x, *first.values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    for a in first.values():
        a[...] = 99
    agree(model.run({"x": x}), reference(g, {"x": x}))


def test_many_threads_at_once():
    g = graph(twice)
    model, xs = graphc.compile(g, threads=2), [data(seed) for seed in range(12)]
    want = [reference(g, {"x": x}) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            for results, w in zip(pool.map(lambda x: model.run({"x": x}), xs), want):
                agree(results, w)


def test_a_failing_look_names_the_node():
    b = Builder("fails")
    x, at = b.input("x", F32, (6, 8)), b.input("at", np.int64, (2,))
    rows = nonzero(b, before(b, x))
    g = b.build({"y": after(b, b.add("Gather", rows, at, axis=0, name="pick"))})
    model, x = graphc.compile(g), data(3)
    agree(model.run({"x": x, "at": np.array([0, -1])}), reference(g, {"x": x, "at": np.array([0, -1])}))
    with pytest.raises(GraphcError, match="pick"):
        model(x, np.array([0, 100]))
    agree(model.run({"x": x, "at": np.array([0, -1])}), reference(g, {"x": x, "at": np.array([0, -1])}))


def test_a_plan_before_any_run_shows_the_head():
    steps = graphc.compile(graph(nonzero)).plan().steps
    assert "MatMul" in {o for s in steps for o in s.ops}
    assert steps[-1].ops == ("NonZero",) and not any(s.host for s in steps)

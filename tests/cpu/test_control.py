"""If, Loop and Scan as programs of a step, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import controls
import numpy as np
import pytest
from controls import *  # noqa: F403  (its tests)
from controls import F32, I64, SCALAR, VECTOR, branch, check, counted, gathers, loop, programs, steps_of, vector
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import agree, weights

import graphc
from graphc.errors import InputError
from graphc.graph import Builder, Graph, Value


@pytest.fixture(autouse=True)
def ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "WAYS", [{"threads": 1}, {"threads": 2}])
    monkeypatch.setattr(controls, "KERNELS", {"loop": "loop", "branch": "branch"})


def test_unchanged_states_are_captured():
    """A matrix that a loop carries is a constant within."""
    b = Builder("carries")
    x = b.input("x", "float32", (2, 8))

    def make(i: Builder, turn: Value, going: Value, s: Value, w: Value) -> list[Value]:
        return [going, i.add("Tanh", i.add("MatMul", s, w)), i.add("Identity", w), i.add("ReduceSum", w)]

    y, w, sums = loop(b, b.constant(3, I64), None, [x, weights(b, 8, 8)], [], make, 3)
    graph = b.build({"y": y, "w": w, "sums": sums})
    check(graph, [{"x": vector(0, (2, 8))}])
    (step,) = [s for s in graphc.compile(graph, cache=False).plan().steps if s.kernel == "loop"]
    assert [ops for label, ops, *_ in step.inside if "Pack" in label] == []


def test_products_on_all_threads_and_captures_that_are_computed():
    """Heavy steps, which the team shares; weights that are constants, computed, and an input."""
    b = Builder("heavy")
    x, w = b.input("x", "float32", (96, 160)), b.input("w", "float32", (160, 160))
    computed = b.add("Tanh", w)

    def make(i: Builder, turn: Value, going: Value, s: Value, c: Value) -> list[Value]:
        h = i.add("Relu", i.add("MatMul", s, weights(i, 160, 160)))
        return [going, i.add("Tanh", i.add("MatMul", h, c))]

    (y,) = loop(b, b.input("n", *SCALAR), None, [x], [computed], make, 1)
    graph = b.build({"y": y})
    feeds = {"x": vector(0, (96, 160)), "w": vector(1, (160, 160)) * F32(0.1)}
    check(graph, [feeds | {"n": np.array(n)} for n in (0, 1, 2, 9)])
    model = graphc.compile(graph, threads=2, cache=False)
    (step,) = [s for s in model.plan().steps if s.kernel == "loop"]
    assert step.algorithm == "shared steps" and len([1 for label, *_ in step.inside if "MatMul" in label]) >= 2
    want = model.run(feeds | {"n": np.array(9)})["y"]
    for _ in range(200):
        np.testing.assert_array_equal(model.run(feeds | {"n": np.array(9)})["y"], want)


@pytest.mark.parametrize("threads", [2, 3])
def test_teams_of_teams_meet_and_part_many_times(threads: int):
    """Products in a branch in a loop in a loop, one call after the other and several at once."""
    b = Builder("teams")
    x, n = b.input("x", "float32", (48, 192)), b.input("n", *SCALAR)

    def product(k: Builder, s: Value) -> list[Value]:
        return [k.add("Tanh", k.add("MatMul", s, weights(k, 192, 192)))]

    def inner(i: Builder, turn: Value, going: Value, s: Value) -> list[Value]:
        negative = i.add("Less", i.add("ReduceSum", s, keepdims=False), i.constant(0, F32))
        return [going, branch(i, negative, [s], product, lambda k, s: [k.add("Neg", *product(k, s))])]

    def outer(i: Builder, turn: Value, going: Value, s: Value, n: Value) -> list[Value]:
        return [going, *loop(i, n, None, [i.add("Neg", s)], [], inner, 1)]

    (y,) = loop(b, n, None, [x], [n], outer, 1)
    graph = b.build({"y": y})
    feeds = [{"x": vector(k, (48, 192)), "n": np.array(k)} for k in range(4)]
    want = [graphc.compile(graph, threads=1).run(f)["y"] for f in feeds]
    model = graphc.compile(graph, threads=threads)
    for _ in range(300):
        for f, w in zip(feeds, want):
            np.testing.assert_array_equal(model.run(f)["y"], w)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(20):
            for y, w in zip(pool.map(lambda f: model.run(f)["y"], feeds), want):
                np.testing.assert_array_equal(y, w)


def test_what_no_kernel_serves_runs_as_before_and_says_why():
    b = Builder("strings")
    x, n = b.input("x", *VECTOR), b.input("n", *SCALAR)

    def make(i: Builder, turn: Value, going: Value, s: Value) -> list[Value]:
        images, region = i.add("Reshape", s, i.constant([1, 8, 1, 1], I64)), i.constant([[0, 0, 0, 0, 0]], np.float64)
        pooled = i.add("MaxRoiPool", i.add("Cast", images, to=np.float64), region, pooled_shape=(1, 1))
        return [
            going,
            i.add("Mul", i.add("Cast", i.add("Reshape", pooled, i.constant([8], I64)), to=F32), i.constant(2, F32)),
        ]

    (y,) = loop(b, n, None, [x], [], make, 1)
    graph = b.build({"y": y})
    model = graphc.compile(graph, cache=False)
    feeds = {"x": vector(), "n": np.array(3)}
    agree(model.run(feeds), graphc.compile(graph, target="reference").run(feeds))
    (step,) = [s for s in steps_of(model) if s.host]
    assert step.ops == ("Loop",) and "MaxRoiPool" in step.reason


# --- around it ----------------------------------------------------------------------------------------------------------
def test_plans_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from graphc.frontends.onnx_export import to_onnx

    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("GRAPHC_CHECK", raising=False)  # then no plans are kept
    data = to_onnx(gathers(inner=True)).SerializeToString()
    feeds = {"x": vector(0, (4, 8)), "at": np.array([0, 1, 2, 3, 3, 1])}
    want = graphc.compile(data).run(feeds)
    assert list(tmp_path.rglob("plan-*.json"))
    again = graphc.compile(data)
    monkeypatch.setattr(type(again._source.backend), "executable", None)
    agree(again.run(feeds), want)
    with pytest.raises(InputError, match="pick"):
        again.run(feeds | {"at": np.array([0, 1, 2, 9, 3, 1])})


@pytest.mark.parametrize("make", [lambda: counted(None, 4)[0], gathers, lambda: gathers(True)])
def test_checked_runs(make: Callable[[], Graph], monkeypatch: pytest.MonkeyPatch):
    graph = make()
    oracle = graphc.compile(graph, target="reference")
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    shapes = {
        "x": vector(0, [v.shape for v in graph.inputs if v.name == "x"][0]),
        "n": np.array(3),
        "at": np.arange(6) % 4,
    }
    feeds = {v.name: shapes[v.name] for v in graph.inputs}
    for threads in (1, 2):
        agree(graphc.compile(graph, threads=threads).run(feeds), oracle.run(feeds))


def test_explain_shows_what_is_inside():
    (step,) = [s for s in graphc.compile(gathers(inner=True), cache=False).plan().steps if s.kernel == "loop"]
    labels = [label for label, *_ in step.inside]
    assert "2 trips" in step.reason and any(x.startswith("  pick") for x in labels), labels


@settings(max_examples=60, deadline=None)
@given(programs(), st.integers(0, 5), st.integers(1, 2))
def test_random_programs(graph: Graph, trips: int, threads: int):
    shape = graph.inputs[0].shape
    feeds = {"x": vector(1, shape), "y": vector(2, shape), "n": np.array(trips)}
    model = graphc.compile(graph, threads=threads)
    want = graphc.compile(graph, target="reference").run(feeds)
    for _ in range(2):
        agree(model.run(feeds), want)
    assert not any(s.host for s in steps_of(model))

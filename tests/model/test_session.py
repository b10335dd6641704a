"""States and sessions: what is carried, what is refused, and what stays as it was."""

from __future__ import annotations

import copy
import pickle
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc import frontends, pipeline
from graphc.backends.reference import run as reference
from graphc.bind import bind
from graphc.errors import CheckError, GraphcError, GraphcWarning, InputError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph
from graphc.segments import cut
from graphc.session import REUSED
from graphc.signature import State
from graphc.state import declared
from graphc.types import TensorType
from graphc.verify import BrokenInvariant, verify

F32 = np.float32
TARGETS = pytest.mark.parametrize("target", ["cpu", "reference"])
RNG = np.random.default_rng(0)


def gru(steps: int, batch: int | str = 2) -> Graph:
    """x [steps, batch, 5], h [1, batch, 8] -> y [steps, 1, batch, 8], h_next."""
    b, rng = Builder("gru"), np.random.default_rng(1)
    x, h = b.input("x", F32, (steps, batch, 5)), b.input("h", F32, (1, batch, 8))
    w, r = (b.constant(rng.uniform(-0.5, 0.5, (1, 24, n)), F32) for n in (5, 8))
    y, h_next = b.add("GRU", x, w, r, None, None, h, hidden_size=8, outputs=2)
    return b.build({"y": y, "h_next": h_next})


def accumulator(shape: tuple = (4,), **types: str) -> Graph:
    """x and total -> total_next = x + total, old (the input itself), again (the result), double."""
    b = Builder("accumulator")
    total = b.input("total", types.get("total", F32), shape)
    x = b.input("x", F32, shape)
    new = b.add("Add", b.add("Cast", total, to=F32), x)
    return b.build({"total_next": new, "old": total, "again": new, "double": b.add("Add", new, new)})


# --- running ----------------------------------------------------------------------------------------------------------
@TARGETS
@pytest.mark.parametrize("batch", [2, "batch"])
def test_steps_of_a_recurrent_layer_are_the_layer(target: str, batch: int | str):
    xs = RNG.uniform(-1, 1, (7, 2, 5)).astype(F32)
    h0 = RNG.uniform(-1, 1, (1, 2, 8)).astype(F32)
    want = reference(gru(7), {"x": xs, "h": h0})
    model = graphc.compile(gru(1, batch), target=target, threads=1, states={"h": "h_next"})
    session = model.session(h=h0)
    for _ in range(2):
        got = [session(x[None]) for x in xs]
        np.testing.assert_allclose(np.concatenate(got), want["y"], atol=1e-5)
        np.testing.assert_allclose(session.state["h"], want["h_next"], atol=1e-5)
        session.reset()
        np.testing.assert_array_equal(session.state["h"], h0)
    assert model.states == (State("h", "h", "h_next"),)
    pure = model(xs[:1], h0)  # the model itself has no memory
    assert len(pure) == 2 and np.array_equal(pure[0], model(xs[:1], h0)[0])


@TARGETS
@pytest.mark.parametrize("reused", [0, REUSED], ids=["reused", "small"])
def test_results_of_a_step_stay_what_they_are(target: str, reused: int, monkeypatch: pytest.MonkeyPatch):
    """Also those that are the state, or its input: the next steps write to other memory."""
    monkeypatch.setattr("graphc.session.REUSED", reused)
    steps = graphc.compile(accumulator(), target=target, threads=1, states={"total": "total_next"}).session()
    kept = []
    for i in range(6):
        kept.append(steps.run({"x": np.full(4, 1 + i, F32)}))
    totals = np.cumsum(np.arange(7))
    for i, results in enumerate(kept):
        assert list(results) == ["old", "again", "double"]
        np.testing.assert_array_equal(results["old"], np.full(4, totals[i], F32))
        np.testing.assert_array_equal(results["again"], np.full(4, totals[i + 1], F32))
        np.testing.assert_array_equal(results["double"], np.full(4, 2 * totals[i + 1], F32))


@TARGETS
@pytest.mark.parametrize("reused", [0, REUSED], ids=["reused", "small"])
def test_several_states_that_change_places(target: str, reused: int, monkeypatch: pytest.MonkeyPatch):
    """Fibonacci: each state takes the other's value."""
    monkeypatch.setattr("graphc.session.REUSED", reused)
    b = Builder()
    a, c = b.input("a", F32, (1,)), b.input("c", F32, (1,))
    graph = b.build({"sum": b.add("Add", a, c), "a_next": c})
    model = graphc.compile(graph, target=target, threads=1, states={"a": "a_next", "c": "sum"})
    steps = model.session(c=np.ones(1, F32))
    for _ in range(10):
        assert steps() == ()
    assert steps.state["c"] == 89 and steps.state["a"] == 55


def test_what_a_session_is_given_and_gives_is_its_own():
    start = np.ones(4, F32)
    session = graphc.compile(accumulator(), threads=1, states={"total": "total_next"}).session(total=start)
    start[:] = 100
    session(np.ones(4, F32))
    np.testing.assert_array_equal(session.state["total"], np.full(4, 2, F32))
    session.reset()
    np.testing.assert_array_equal(session.state["total"], np.ones(4, F32))


def test_sessions_of_one_model_are_apart():
    model = graphc.compile(accumulator(), threads=1, states={"total": "total_next"})
    one, two = model.session(), model.session()
    one(np.ones(4, F32))
    assert one.state["total"][0] == 1 and two.state["total"][0] == 0


def test_a_step_that_fails_changes_nothing():
    session = graphc.compile(accumulator(), threads=1, states={"total": "total_next"}).session()
    session(np.ones(4, F32))
    with pytest.raises(InputError):
        session(np.ones(5, F32))
    assert session.state["total"][0] == 1
    session(np.ones(4, F32))
    assert session.state["total"][0] == 2


def test_a_state_whose_value_decides_shapes():
    """The count of a step is an operand of Slice: a plan for each value."""
    b = Builder()
    x, n = b.input("x", F32, (8,)), b.input("n", np.int64, (1,))
    first = b.add("Slice", x, b.constant([0]), n)
    graph = b.build({"first": first, "n_next": b.add("Add", n, b.constant([1]))})
    session = graphc.compile(graph, threads=1, states={"n": "n_next"}).session()
    assert [len(session(np.arange(8, dtype=F32))) for _ in range(4)] == [0, 1, 2, 3]


def test_a_model_whose_shapes_follow_from_data():
    b = Builder()
    x, n = b.input("x", F32, (6,)), b.input("n", np.int64, ())
    where = b.add("NonZero", x)
    count = b.add("Squeeze", b.add("Slice", b.add("Shape", where), b.constant([1]), b.constant([2])))
    graph = b.build({"where": where, "n_next": b.add("Add", n, count)})
    session = graphc.compile(graph, threads=1, states={"n": "n_next"}).session()
    for _ in range(2):
        assert session(F32([0, 1, 0, 2, 3, 0])).tolist() == [[1, 3, 4]]
    assert session.state["n"] == 6


def test_one_thread_at_a_time():
    session = graphc.compile(accumulator(), threads=1, states={"total": "total_next"}).session()
    inside, go = threading.Event(), threading.Event()
    run = session._model.run

    class Slow:
        states, inputs = session._model.states, session._model.inputs

        @staticmethod
        def run(*args, **kwargs):
            inside.set()
            assert go.wait(30)
            return run(*args, **kwargs)

    session._model = Slow()
    thread = threading.Thread(target=session, args=(np.ones(4, F32),))
    thread.start()
    assert inside.wait(30)
    for use in (lambda: session(np.ones(4, F32)), session.reset, lambda: session.state):
        with pytest.raises(GraphcError, match="in use by another thread\n.*a session for each thread"):
            use()
    go.set()
    thread.join()
    assert session.state["total"][0] == 1


# --- what is refused --------------------------------------------------------------------------------------------------
def refused(states: object, message: str, graph: Graph | None = None) -> None:
    with pytest.raises(InputError, match=message):
        graphc.compile(graph or accumulator(), states=states, threads=1)


def test_states_must_be_there():
    refused({"totl": "total_next"}, r"no input 'totl' for a state\n.*did you mean 'total'\? inputs: total, x")
    refused({"total": "next"}, r"no output 'next' for a state\n.*outputs: total_next, old, again, double")
    refused({"total": "total_next", "x": "total_next"}, "output 'total_next' is in 2 states")
    refused(["total"], "states must map names of inputs to names of outputs, not")
    refused({"total": 1}, "states must map")


def test_states_have_one_type():
    b = Builder()
    b.input("ints", np.int64, (4,)), b.input("five", F32, (5,)), b.input("rows", F32, (1, 4))
    graph = b.build({"y": b.add("Relu", b.input("x", F32, (4,)))})
    refused({"ints": "y"}, r"state 'ints': input 'ints' is int64\[4\], output 'y' is float32\[4\]\n.*cast", graph)
    refused({"five": "y"}, r"input 'five' is float32\[5\], output 'y' is float32\[4\]", graph)
    refused({"rows": "y"}, "as many dims", graph)


def test_dims_that_are_numbers_stay():
    b = Builder()
    graph = b.build({"y": b.add("Concat", b.input("past", F32, (1, 4)), b.input("x", F32, (1, 4)), axis=1)})
    refused({"past": "y"}, r"is float32\[1, 8\]\n.*must be the same numbers", graph)


def test_equal_dims_count_however_they_are_written():
    b = Builder()
    x = b.input("x", F32, ("n", "k"))
    joined = b.add("Concat", x, x, axis=0)
    half = b.add("Split", joined, axis=0, num_outputs=2, outputs=2)[0]
    model = graphc.compile(b.build({"y": half}), states={"x": "y"}, threads=1)
    assert model.session(x=np.ones((3, 2), F32)) is not None


def test_what_a_session_does_not_take():
    model = graphc.compile(accumulator(), threads=1, states={"total": "total_next"})
    with pytest.raises(InputError, match="'x' is no state\n.*states: total"):
        model.session(x=np.ones(4, F32))
    with pytest.raises(InputError, match=r"state 'total' has shape \(5,\), the model wants float32\[4\]"):
        model.session(total=np.ones(5, F32))
    with pytest.raises(InputError, match="float64, the model wants"):
        model.session(total=np.ones(4))
    session = model.session()
    with pytest.raises(InputError, match="'total' is a state"):
        session(np.ones(4, F32), total=np.ones(4, F32))
    with pytest.raises(InputError, match="takes 1 input, not 2"):
        session(np.ones(4, F32), np.ones(4, F32))
    with pytest.raises(InputError, match="given twice"):
        session(np.ones(4, F32), x=np.ones(4, F32))
    with pytest.raises(InputError, match="missing: x"):
        session()
    with pytest.raises(InputError, match="no states for a session"):
        graphc.compile(accumulator(), threads=1).session()
    b = Builder()
    graph = b.build({"h_next": b.add("Relu", b.input("h", F32, ("n",)))})  # no other input says what n is
    with pytest.raises(InputError, match=r"needs a first value\n.*model.session\(h="):
        graphc.compile(graph, threads=1, states={"h": "h_next"}).session()


# --- graphs -----------------------------------------------------------------------------------------------------------
def test_states_survive_passes_and_binding():
    graph = declared(gru(1, "batch"), {"h": "h_next"})
    assert declared(graph, {"h": "h_next"}).states == graph.states  # once
    after = pipeline.run(graph, pipeline.SHAPE_FREE, verify=True)
    types = {"x": TensorType(F32, (1, 2, 5)), "h": TensorType(F32, (1, 2, 8))}
    bound = pipeline.run(bind(after, types), pipeline.bound(frozenset()), verify=True)
    assert graph.states == after.states == bound.states == (State("h", "h", "h_next"),)


def test_states_of_a_graph_that_is_cut():
    b = Builder()
    x, n = b.input("x", F32, (6,)), b.input("n", F32, (6,))
    where = b.add("NonZero", x)
    graph = declared(b.build({"where": b.add("Neg", where), "next": b.add("Add", n, x)}), {"n": "next"})
    parts = cut(graph)
    verify(parts.suffix)
    assert parts.suffix.states == graph.states and parts.prefix.states == ()


def test_verify_knows_states():
    graph = declared(accumulator(), {"total": "total_next"})
    verify(graph)
    for states, text in [
        ([State("s", "total", "nothing")], "which are not both there"),
        ([State("s", "total", "again"), State("t", "total", "old")], "input 'total' is in 2 states"),
        ([State("s", "total", "again"), State("t", "x", "again")], "output 'again' is in 2 states"),
    ]:
        with pytest.raises(BrokenInvariant, match=text):
            verify(replace(graph, states=tuple(states)))
    with pytest.raises(BrokenInvariant, match=r"int64\[4\] as an input and float32\[4\] as a result"):
        verify(replace(accumulator(total="int64"), states=graph.states))


def test_a_state_keeps_its_shape():
    """Dims of one name in a file may differ: a step must not make a state of another size."""
    b = Builder("step")
    x, h = b.input("x", "float32", ("batch", 4)), b.input("h", "float32", ("batch", 4))
    proto = to_onnx(b.build({"h_next": b.add("Add", x, h), "y": b.add("Neg", h)}))
    session = graphc.compile(proto, states={"h": "h_next"}).session(h=np.zeros((1, 4), np.float32))
    with (
        pytest.warns(GraphcWarning),
        pytest.raises(InputError, match=r"has shape \(1, 4\), this step makes it \(3, 4\)"),
    ):
        session(np.ones((3, 4), np.float32))
    session(np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(session.state["h"], np.ones((1, 4)))


def test_what_state_gives_is_to_be_read():
    session = graphc.compile(accumulator(), states={"total": "total_next"}).session()
    with pytest.raises(TypeError):
        session.state["total"] = np.ones(4)
    with pytest.raises(ValueError, match="read-only"):
        next(iter(session.state.values()))[...] = 7
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        pickle.dumps(session)
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.copy(session)


def test_states_in_onnx_files():
    graph = declared(accumulator(), {"total": "total_next"})
    proto = to_onnx(graph)
    assert frontends.load(proto).states == graph.states
    session = graphc.compile(proto, threads=1).session()
    session(np.ones(4, F32))
    assert session.state["total"].tolist() == [1] * 4
    proto.metadata_props[0].value = '[["s", "total", "gone"]]'
    with pytest.raises(CheckError, match="metadata 'graphc.states'.*knows no output 'gone'"):
        frontends.load(proto)
    proto.metadata_props[0].value = "nonsense"
    with pytest.raises(CheckError, match="is not a list of"):
        frontends.load(proto)


def test_states_are_part_of_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAPHC_CHECK", raising=False)
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(accumulator()).SerializeToString())
    for _ in range(2):  # made, and found
        assert graphc.compile(path, threads=1).states == ()
        model = graphc.compile(path, threads=1, states={"total": "total_next"})
        session = model.session()
        session(np.ones(4, F32))
        assert session.state["total"].tolist() == [1] * 4
    assert pickle.loads(pickle.dumps(model)).states == model.states


def test_the_example_of_the_docs_runs():
    text = (Path(__file__).resolve().parents[2] / "docs/how-it-works.md").read_text(encoding="utf-8")
    code = re.search(r"## States.*?```python\n(.*?)```", text, re.DOTALL)
    exec(code.group(1), {})

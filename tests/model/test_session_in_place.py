"""Sessions whose states grow in place: the same as steps that hand caches over, and no copies."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphc
from graphc import classes
from graphc.errors import InputError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph
from graphc.growing import growing
from graphc.session import Session
from graphc.signature import Growth

F32 = np.float32
HEADS, SIZE, WORDS = 2, 16, 50
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a step from being one in place is raised."""
    monkeypatch.setattr(classes, "STRICT", True)


def decoder(axis: int = 2) -> Graph:
    """ids [batch, new], two caches of [batch, heads, past, size] -> y, the caches with what is new at their ends.

    axis: along which the caches grow; 1 for [batch, past, heads, size].
    """
    b = Builder("decoder")
    shape = ("batch", HEADS, "past", SIZE) if axis == 2 else ("batch", "past", HEADS, SIZE)
    ids = b.input("ids", np.int64, ("batch", "new"))
    past = {n: b.input(f"past_{n}", F32, shape) for n in ("key", "value")}
    rng = np.random.default_rng(1)
    table = b.constant(rng.standard_normal((WORDS, HEADS * SIZE)), F32)
    x = b.add("Gather", table, ids)
    heads = b.add("Reshape", x, b.constant([0, 0, HEADS, SIZE], np.int64))
    new = {n: b.add("Mul", heads, b.constant(rng.standard_normal((HEADS, SIZE)), F32)) for n in ("key", "value")}
    if axis == 2:
        new = {n: b.add("Transpose", v, perm=(0, 2, 1, 3)) for n, v in new.items()}
    whole = {n: b.add("Concat", past[n], new[n], axis=axis) for n in new}
    columns = b.add("Transpose", whole["key"], perm=(0, 1, 3, 2) if axis == 2 else (0, 2, 3, 1))
    values = whole["value"] if axis == 2 else b.add("Transpose", whole["value"], perm=(0, 2, 1, 3))
    scores = b.add("MatMul", b.add("Transpose", heads, perm=(0, 2, 1, 3)), columns)
    y = b.add("MatMul", b.add("Softmax", b.add("Mul", scores, b.constant(0.25, F32)), axis=-1), values)
    return b.build({"y": y, "present_key": whole["key"], "present_value": whole["value"]})


def ids(new: int = 1, batch: int = 1) -> np.ndarray:
    return RNG.integers(0, WORDS, (batch, new))


class Handed:
    """The same steps by pure calls."""

    def __init__(self, model: graphc.Model, past: dict[str, np.ndarray], outputs: dict[str, str]) -> None:
        self.model, self.past, self.outputs = model, dict(past), outputs

    def __call__(self, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        results = self.model.run({**feeds, **self.past})
        self.past = {i: results.pop(o) for i, o in self.outputs.items()}
        return results


OUTPUTS = {"past_key": "present_key", "past_value": "present_value"}


def handed(model: graphc.Model, batch: int = 1) -> Handed:
    shape = tuple({"batch": batch, "past": 0}.get(d, d) for d in model.inputs[1].shape)
    return Handed(model, dict.fromkeys(OUTPUTS, np.zeros(shape, F32)), OUTPUTS)


def same(session: Session, want: Handed, **feeds: np.ndarray) -> None:
    """A step of both gives the same, and leaves the same."""
    expected = want(**feeds)
    for name, a in session.run(feeds).items():
        np.testing.assert_array_equal(a, expected[name])
    same_states(session, want)


def same_states(session: Session, want: Handed) -> None:
    for name, a in session.state.items():
        np.testing.assert_array_equal(a, want.past[name])


def in_place(session: Session) -> bool:
    return session._place is not None and session._place.room is not None


@pytest.fixture(scope="module")
def model() -> Iterator[graphc.Model]:
    yield graphc.compile(decoder(), threads=1)


# --- steps ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_steps_in_place_are_those_of_pure_calls(axis: int, batch: int):
    """One token at a time, and several at once, through several capacities."""
    model = graphc.compile(decoder(axis), threads=1)
    session, want = model.session(), handed(model, batch)
    for i in range(300):
        same(session, want, ids=ids(4 if i % 50 == 20 else 1, batch))
        assert in_place(session) == (i >= 2)
    assert dict(session.lengths) == dict.fromkeys(OUTPUTS, 318)


def test_many_new_positions_at_once(model: graphc.Model):
    session, want = model.session(), handed(model)
    for new in (3, 1, 700, 1, 63, 2, 2):
        same(session, want, ids=ids(new))
    assert in_place(session)


def test_two_sessions_share_plans(model: graphc.Model):
    one, other, batch = model.session(), model.session(), (1, 2)
    wanted = [handed(model, b) for b in batch]
    for _ in range(70):
        for session, want, b in zip((one, other), wanted, batch):
            same(session, want, ids=ids(1, b))
    assert one._place.plans is other._place.plans


def test_several_threads():
    model = graphc.compile(decoder(), threads=2)
    session, want = model.session(), handed(model)
    for _ in range(80):
        same(session, want, ids=ids())


def test_truncate_and_go_on(model: graphc.Model):
    session, want = model.session(), handed(model)
    for length in (20, 7, 1, 30, 0, 65):
        while session.lengths["past_key"] < 70:
            same(session, want, ids=ids(3))
        session.truncate(length)
        want.past = {n: a[:, :, :length] for n, a in want.past.items()}
        same_states(session, want)
    same(session, want, ids=ids())


def test_reset(model: graphc.Model):
    session = model.session()
    for _ in range(2):
        want = handed(model)
        for _ in range(5):
            same(session, want, ids=ids(2))
        session.reset()


def test_a_step_that_fails_leaves_the_states(model: graphc.Model):
    session, want = model.session(), handed(model)
    for _ in range(5):
        same(session, want, ids=ids(2))
    for wrong in (np.array([[WORDS]]), np.zeros((2, 1), np.int64), np.zeros((1, 1), F32)):
        with pytest.raises(InputError):
            session(wrong)
        same_states(session, want)
    with pytest.raises(InputError):
        session(np.full((1, 99), WORDS))  # which needs more room
    for _ in range(70):
        same(session, want, ids=ids())
    assert in_place(session)


def test_a_state_beside_it_that_fails_leaves_all(model: graphc.Model):
    """What a step makes of the other state is no input of the next one."""
    b = Builder()
    x, past = b.input("x", F32, ("new", 4)), b.input("past", F32, ("past", 4))
    h, shape = b.input("h", F32, ("k",)), b.input("shape", np.int64, ("rank",))
    whole = b.add("Concat", past, x, axis=0)
    graph = b.build({"present": whole, "h_next": b.add("Reshape", h, b.add("Identity", shape))})
    model = graphc.compile(graph, threads=1, states={"past": "present", "h": "h_next"})
    session = model.session(past=np.ones((3, 4), F32), h=np.zeros(6, F32))
    step = {"x": np.ones((1, 4), F32), "shape": np.array([6])}
    for _ in range(2):
        session(**step)
    with pytest.raises(InputError, match="number of dims"):
        session(**{**step, "shape": np.array([2, 3])})
    assert session.lengths["past"] == 5
    session(**step)
    assert session.lengths["past"] == 6 and in_place(session)


# --- forks, files, threads, processes -----------------------------------------------------------------------------------
def test_forks_go_on_apart(model: graphc.Model):
    """As in a beam search: of each session several forks, of which any may go on first."""
    beams = [(model.session(), handed(model))]
    for _ in range(10):
        same(*beams[0], ids=ids(3))
    for _ in range(6):
        more = []
        for session, want in beams:
            other = session.fork(), Handed(model, want.past, OUTPUTS)
            for pair in (other, (session, want)) if len(more) % 4 else ((session, want), other):
                same(*pair, ids=ids(2))
                more.append(pair)
        beams = [more[i] for i in RNG.permutation(len(more))[:3]]
    for session, want in beams:
        same_states(session, want)


def test_a_fork_keeps_what_is_cut_behind_it(model: graphc.Model):
    session, want = model.session(), handed(model)
    for _ in range(10):
        same(session, want, ids=ids(3))
    other, kept = session.fork(), Handed(model, want.past, OUTPUTS)
    session.truncate(12)
    want.past = {n: a[:, :, :12] for n, a in want.past.items()}
    for _ in range(5):
        same(session, want, ids=ids(3))
    same_states(other, kept)
    same(other, kept, ids=ids())


def test_a_file(model: graphc.Model, tmp_path: Path):
    session, want = model.session(), handed(model)
    for _ in range(10):
        same(session, want, ids=ids())
    session.save(tmp_path / "session.npz")
    other, kept = model.load_session(tmp_path / "session.npz"), Handed(model, want.past, OUTPUTS)
    for _ in range(3):
        same(session, want, ids=ids())
        same(other, kept, ids=ids())
    assert in_place(other)


def test_forks_in_threads(model: graphc.Model):
    first, want = model.session(), handed(model)
    for _ in range(20):
        same(first, want, ids=ids())
    pairs = [(first, want)] + [(first.fork(), Handed(model, want.past, OUTPUTS)) for _ in range(3)]
    tokens, failures = [ids() for _ in range(100)], []

    def go(session: Session, want: Handed) -> None:
        try:
            for token in tokens:
                same(session, want, ids=token)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=go, args=pair) for pair in pairs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_both_processes_go_on(model: graphc.Model):
    session, want = model.session(), handed(model)
    for _ in range(20):
        same(session, want, ids=ids())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for _ in range(60):
                same(session, want, ids=ids())
            code = 0
        finally:
            os._exit(code)
    for _ in range(60):
        same(session, want, ids=ids())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- what grows, and what does not --------------------------------------------------------------------------------------
def appended(readers: Callable[[Builder, object, object], dict[str, object]] = lambda b, past, whole: {}) -> Graph:
    """x [new, 3, 4], past [past, 3, 4] -> present, and what is made of both."""
    b = Builder()
    x, past = b.input("x", F32, ("new", 3, 4)), b.input("past", F32, ("past", 3, 4))
    whole = b.add("Concat", past, b.add("Mul", x, x), axis=0)
    return b.build({"present": whole, **readers(b, past, whole)})


READERS: dict[str, Callable[[Builder, object, object], dict[str, object]]] = {
    "nobody": lambda b, past, whole: {},
    "results": lambda b, past, whole: {"again": whole, "before": past, "flat": b.add("Flatten", whole)},
    "sums": lambda b, past, whole: {"a": b.add("ReduceSum", whole), "b": b.add("ReduceSum", past)},
    "products": lambda b, past, whole: {"a": b.add("MatMul", whole, b.add("Transpose", whole, perm=(0, 2, 1)))},
    "elementwise": lambda b, past, whole: {"a": b.add("Tanh", whole), "b": b.add("Mul", past, past)},
    "parts": lambda b, past, whole: {"a": b.add("Slice", whole, *_bounds(b)), "b": b.add("Gather", whole, _last(b))},
    "another": lambda b, past, whole: {"a": b.add("Concat", past, past, axis=0), "b": b.add("Softmax", whole, axis=1)},
}


def _bounds(b: Builder) -> list[object]:
    return [b.constant([n], np.int64) for n in (-2, 2**31, 0)]


def _last(b: Builder) -> object:
    return b.constant([-1, 0], np.int64)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("readers", READERS)
def test_whoever_reads_it(readers: str, axis: int):
    b = Builder()
    shape: list[int | str] = [2, 3, 4]
    new, old = ((*shape[:axis], n, *shape[axis + 1 :]) for n in ("new", "past"))
    x, past = b.input("x", F32, new), b.input("past", F32, old)
    whole = b.add("Concat", past, b.add("Mul", x, x), axis=axis)
    graph = b.build({"present": whole, **READERS[readers](b, past, whole)})
    model = graphc.compile(graph, threads=1, states={"past": "present"})
    first = {"past": RNG.standard_normal([*shape[:axis], 3, *shape[axis + 1 :]]).astype(F32)}
    session, want = model.session(**first), Handed(model, first, {"past": "present"})
    for count in [1] * 61 + [3, 60, 1]:
        given = RNG.standard_normal([*shape[:axis], count, *shape[axis + 1 :]]).astype(F32)
        same(session, want, x=given)
    assert in_place(session)


@pytest.mark.parametrize("dtype", ["int64", "bool", "float64", "uint8", "float16"])
def test_dtypes(dtype: str):
    b = Builder()
    x, past = b.input("x", dtype, ("new",)), b.input("past", dtype, ("past",))
    graph = b.build({"present": b.add("Concat", past, x, axis=0)})
    model = graphc.compile(graph, threads=1, states={"past": "present"})
    first = {"past": RNG.integers(0, 2, 5).astype(dtype)}
    session, want = model.session(**first), Handed(model, first, {"past": "present"})
    for _ in range(70):
        same(session, want, x=RNG.integers(0, 2, 1).astype(dtype))
    assert in_place(session)


def test_a_state_that_keeps_its_shape_beside_it():
    b = Builder()
    x, past, h = b.input("x", F32, ("new", 4)), b.input("past", F32, ("past", 4)), b.input("h", F32, (500, 500))
    total = b.add("Add", h, b.add("ReduceSum", x))
    graph = b.build({"y": b.add("ReduceMax", total), "present": b.add("Concat", past, x, axis=0), "h_next": total})
    states = {"past": "present", "h": "h_next"}
    model = graphc.compile(graph, threads=1, states=states)
    first = {"past": np.zeros((3, 4), F32), "h": np.zeros((500, 500), F32)}
    session, want = model.session(**first), Handed(model, first, states)
    for _ in range(70):
        same(session, want, x=RNG.standard_normal((1, 4)).astype(F32))
    other, kept = session.fork(), Handed(model, want.past, states)
    same(session, want, x=np.ones((1, 4), F32))
    same(other, kept, x=np.ones((2, 4), F32))
    assert in_place(session)


def test_what_grows():
    """Only what a result begins with."""
    b = Builder()
    x = b.input("x", F32, ("new", 4))
    past = [b.input(f"past{i}", F32, (f"past{i}", 4)) for i in range(4)]
    both = [b.add("Concat", past[1], y, axis=0) for y in (x, b.add("Neg", x))]
    graph = b.build(
        {
            "behind": b.add("Concat", past[0], x, axis=-2),
            "one": both[0],
            "other": both[1],
            "before": b.add("Concat", x, past[2], axis=0),
            "changed": b.add("Relu", b.add("Concat", past[3], x, axis=0)),
        }
    )
    pairs = [("past0", "behind"), ("past1", "one"), ("past1", "other"), ("x", "before")]
    assert growing(graph) == tuple(Growth(*pair, 0) for pair in pairs)


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_what_does_not_grow_is_handed_over(target: str):
    b = Builder()
    x, past = b.input("x", F32, ("new", 4)), b.input("past", F32, ("past", 4))
    graph = b.build({"present": b.add("Concat", x, past, axis=0)})
    model = graphc.compile(graph, target=target, threads=1, states={"past": "present"})
    first = {"past": np.zeros((3, 4), F32)}
    session, want = model.session(**first), Handed(model, first, {"past": "present"})
    for _ in range(5):
        same(session, want, x=RNG.standard_normal((1, 4)).astype(F32))
    assert not in_place(session)


@pytest.mark.parametrize("options", [{"target": "reference"}, {"tune": True}])
def test_a_target_without_plans_for_many(options: dict):
    model = graphc.compile(appended(), threads=1, states={"past": "present"}, **options)
    first = {"past": np.zeros((3, 3, 4), F32)}
    session, want = model.session(**first), Handed(model, first, {"past": "present"})
    for _ in range(4):
        same(session, want, x=RNG.standard_normal((1, 3, 4)).astype(F32))
    assert not in_place(session) and "copied by each step: the target has no plans for many sizes" in repr(session)


def test_a_plan_that_can_not_be_made(monkeypatch: pytest.MonkeyPatch):
    """Strings are appended to on the host: the session says why it hands them over."""
    monkeypatch.setattr(classes, "STRICT", False)
    b = Builder()
    x, past = b.input("x", object, ("new",)), b.input("past", object, ("past",))
    model = graphc.compile(b.build({"present": b.add("Concat", past, x, axis=0)}), threads=1)
    session = model.session(states={"past": "present"}, past=np.array(["a", "b"], object))
    for _ in range(4):
        session(np.array(["c"], object))
    assert session.state["past"].tolist() == ["a", "b", "c", "c", "c", "c"]
    assert "copied by each step: CantGrow: 'present' is no dense value that a kernel makes" in repr(session)


# --- memory -----------------------------------------------------------------------------------------------------------
def test_a_step_allocates_nothing_for_what_is_there():
    graph = appended(READERS["nobody"])
    model = graphc.compile(graph, threads=1, states={"past": "present"})
    session = model.session(past=np.zeros((100_000, 3, 4), F32))  # 4.8 MB
    x = np.ones((1, 3, 4), F32)
    session(x)
    tracemalloc.start()
    try:
        for _ in range(20):
            session(x)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert session.lengths["past"] == 100_021


def test_memory_stays_what_it_is(model: graphc.Model):
    """Cut and gone on again and again."""
    session = model.session()
    for _ in range(100):
        session(ids())
    room = session._place.room
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            session.truncate(50)
            for _ in range(50):
                session(ids())
        assert tracemalloc.get_traced_memory()[0] - before < 50_000
    finally:
        tracemalloc.stop()
    assert session._place.room is room


# --- on disk ----------------------------------------------------------------------------------------------------------
def test_plans_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A model that is compiled again finds them; pure calls do not."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    path = tmp_path / "decoder.onnx"
    onnx.save(to_onnx(decoder()), path)
    model = graphc.compile(path, threads=1)
    session = model.session()
    for _ in range(30):
        session(ids())
    again = graphc.compile(path, threads=1)
    monkeypatch.setattr("graphc.compiler.Compilation.bind_growing", None)
    monkeypatch.setattr("graphc.compiler.Compilation.bind", None)
    session, want = again.session(), handed(model)
    for _ in range(100):
        same(session, want, ids=ids())
    assert in_place(session)
    assert len(list(tmp_path.rglob("plan-session-*.json"))) == len(again._growing.popitem()[1].plans)


def test_the_caches_of_onnx_attention_grow_in_place():
    """Grouped heads, causal: past and present are operands and results of the operator itself."""
    from onnx import TensorProto, helper

    def declared(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    names, results = ["q", "k", "v", "", "past_key", "past_value"], ["y", "present_key", "present_value"]
    heads = {"q": 4, "k": 2, "v": 2, "past_key": 2, "past_value": 2}
    inputs = [declared(n, "b", heads[n], "past" if "past" in n else "n", 16) for n in names if n]
    outputs = [declared(n, "b", 4 if n == "y" else 2, "n" if n == "y" else "total", 16) for n in results]
    node = helper.make_node("Attention", names, results, is_causal=1)
    graph = helper.make_graph([node], "attention", inputs, outputs)
    model = graphc.compile(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), threads=1
    )
    session, rng = model.session(), np.random.default_rng(0)
    past = {n: np.zeros((1, 2, 0, 16), np.float32) for n in ("past_key", "past_value")}
    for n in [3, *[1] * 80, 5]:
        new = {k: rng.standard_normal((1, heads[k], n, 16)).astype(np.float32) for k in "qkv"}
        want = model.run({**new, **past})
        past = {n: want[n.replace("past", "present")] for n in past}
        np.testing.assert_allclose(session(**new), want["y"], rtol=0, atol=1e-6)
    assert in_place(session)
    assert session.lengths == {"past_key": 88, "past_value": 88}

"""Sessions whose states grow, as a decoder's caches: found by name, cut, forked, saved, and what is refused."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphc
from graphc.backends.reference import run as reference
from graphc.errors import GraphcError, InputError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Graph
from graphc.signature import State
from graphc.state import caches

F32 = np.float32
TARGETS = pytest.mark.parametrize("target", ["cpu", "reference"])
RNG = np.random.default_rng(0)
HEADS, SIZE = 2, 4


def decoder(past: str = "past_{}", present: str = "present_{}") -> Graph:
    """q, k, v [batch, heads, new, size], two caches [batch, heads, past, size] -> y like q, the caches with k, v at the end."""
    b = Builder("decoder")
    q, k, v = (b.input(n, F32, ("batch", HEADS, "new", SIZE)) for n in "qkv")
    kept = {n: b.input(past.format(n), F32, ("batch", HEADS, "past", SIZE)) for n in ("key", "value")}
    keys, values = b.add("Concat", kept["key"], k, axis=2), b.add("Concat", kept["value"], v, axis=2)
    y = b.add("Attention", q, keys, values)
    return b.build({"y": y, present.format("key"): keys, present.format("value"): values})


def tokens(count: int, batch: int = 1) -> list[dict[str, np.ndarray]]:
    return [{n: RNG.uniform(-1, 1, (batch, HEADS, 1, SIZE)).astype(F32) for n in "qkv"} for _ in range(count)]


def rows(steps: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([s[name] for s in steps], axis=2)


def whole(steps: list[dict[str, np.ndarray]]) -> np.ndarray:
    """What the last step gives, by a pure call that has all the rows before it."""
    past = {f"past_{long}": rows(steps, n)[:, :, :-1] for n, long in (("k", "key"), ("v", "value"))}
    return reference(decoder(), {**steps[-1], **past})["y"]


def close(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, atol=1e-5)


# --- steps ------------------------------------------------------------------------------------------------------------
@TARGETS
@pytest.mark.parametrize("batch", [1, 3])
def test_a_cache_grows_from_nothing(target: str, batch: int):
    """Its first length is 0, its batch that of the first step's inputs."""
    model = graphc.compile(decoder(), target=target, threads=1)
    session, steps = model.session(), tokens(5, batch)
    for i, step in enumerate(steps):
        assert dict(session.lengths) == {"past_key": i, "past_value": i}
        close(session(**step), whole(steps[: i + 1]))
    np.testing.assert_array_equal(session.state["past_key"], rows(steps, "k"))
    session.reset()
    assert dict(session.lengths) == {"past_key": 0, "past_value": 0}
    other = tokens(2, 2)  # of another batch
    for i, step in enumerate(other):
        close(session(**step), whole(other[: i + 1]))


def test_a_model_stays_pure():
    model = graphc.compile(decoder(), threads=1)
    (step,) = tokens(1)
    empty = np.zeros((1, HEADS, 0, SIZE), F32)
    before = model(**step, past_key=empty, past_value=empty)[0]
    session = model.session()
    session(**step), session(**step)
    np.testing.assert_array_equal(before, model(**step, past_key=empty, past_value=empty)[0])
    assert model.states == ()


def test_results_are_handed_on_without_copies(monkeypatch: pytest.MonkeyPatch):
    model = graphc.compile(decoder(), threads=1)
    session, given, made = model.session(), [], []
    run = model.run

    def watched(feeds: dict, out: dict | None) -> dict:
        given.append(feeds)
        made.append(run(feeds, out))
        return dict(made[-1])

    monkeypatch.setattr(model, "run", watched)
    for step in tokens(3):
        session(**step)
    for results, feeds in zip(made, given[1:]):
        assert feeds["past_key"] is results["present_key"] and feeds["past_value"] is results["present_value"]


def test_a_first_value_of_any_length():
    before, step = tokens(3), tokens(1)
    model = graphc.compile(decoder(), threads=1)
    session = model.session(past_key=rows(before, "k"), past_value=rows(before, "v"))
    close(session(**step[0]), whole(before + step))
    session.reset()
    assert session.lengths["past_key"] == 3
    with pytest.raises(InputError, match=r"has shape \(1, 2, 4\), the model wants float32\[batch, 2, past, 4\]"):
        model.session(past_key=np.zeros((1, 2, 4), F32))


def test_a_state_that_shrinks():
    """Compress leaves fewer elements: the axis is open, its first size not known."""
    b = Builder()
    kept, least = b.input("kept", F32, ("n",)), b.input("least", F32, ())
    graph = b.build({"left": b.add("Compress", kept, b.add("Greater", kept, least))})
    session = graphc.compile(graph, threads=1, states={"kept": "left"}).session(kept=np.arange(6, dtype=F32))
    for least, count in ((1, 4), (3, 2), (9, 0)):
        session(F32(least))
        assert session.lengths["kept"] == count


@TARGETS
def test_a_recurrent_state_begins_with_zeros_of_the_batch(target: str):
    b = Builder()
    x, h = b.input("x", F32, ("batch", 3)), b.input("h", F32, ("batch", 3))
    graph = b.build({"h_next": b.add("Add", x, h)})
    session = graphc.compile(graph, target=target, threads=1).session(states={"h": "h_next"})
    assert dict(session.state) == {} and "float32[batch, 3]" in repr(session)
    for _ in range(2):
        session(np.ones((4, 3), F32))
    np.testing.assert_array_equal(session.state["h"], np.full((4, 3), 2, F32))
    with pytest.raises(InputError):  # its batch is fixed by now
        session(np.ones((2, 3), F32))
    np.testing.assert_array_equal(session.state["h"], np.full((4, 3), 2, F32))


def test_a_first_step_that_fails_settles_nothing():
    session = graphc.compile(decoder(), threads=1).session()
    (step,) = tokens(1, 2)
    with pytest.raises(InputError, match="missing: v"):
        session(q=step["q"], k=step["k"])
    with pytest.raises(GraphcError):
        session(**{**step, "k": step["k"][:, :1]})
    session(**step)
    assert session.lengths["past_key"] == 1


def test_a_dtype_that_a_result_turns_out_to_have():
    """The type of the result is not known before sizes are, so the step tells."""
    b = Builder()
    n, x = b.input("n", np.int64, ("k",)), b.input("x", F32, ("k",))
    graph = b.build({"y": b.add("Reshape", x, b.add("Identity", n))})  # of as many dims as n has elements
    session = graphc.compile(graph, threads=1, states={"x": "y"}).session(x=np.ones(2, F32))
    with pytest.raises(InputError, match=r"is float32\[2\], this step makes it float32\[1, 2\]\n.*number of dims"):
        session(np.array([1, 2]))


# --- which states there are -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("past", "present"),
    [
        ("past_key_values.0.{}", "present.0.{}"),
        ("past_key_values.0.decoder.{}", "present.0.decoder.{}"),
        ("past_key_values.0.{}", "present_key_values.0.{}"),
        ("past_{}_0", "present_{}_0"),
        ("past_{}_self_0", "present_{}_self_0"),
        ("past_{}", "new_{}"),
        ("past.0.{}", "present.0.{}"),
    ],
)
def test_caches_are_found_by_name(past: str, present: str):
    graph = decoder(past, present)
    assert caches(graph) == tuple(State(past.format(n), past.format(n), present.format(n)) for n in ("key", "value"))
    for source in (graph, to_onnx(graph)):
        session, steps = graphc.compile(source, threads=1).session(), tokens(2)
        for i, step in enumerate(steps):
            close(session.run(step)["y"], whole(steps[: i + 1]))


def test_names_that_are_no_caches():
    b = Builder()
    x, pastry, ints = b.input("past", F32, (3,)), b.input("pastry", F32, (3,)), b.input("past_n", np.int64, ())
    y = b.add("Add", x, pastry)
    graph = b.build({"presentry": y, "present_n": y})
    assert caches(graph) == ()
    with pytest.raises(InputError, match="no states for a session to carry"):
        graphc.compile(graph, threads=1).session()
    assert ints.name == "past_n"


@TARGETS
def test_a_cache_of_tensor_scatter(target: str):
    """Its result is the next step's cache, whatever the names are."""
    b = Builder("ring")
    cache, row = b.input("memory", F32, (2, 4, 3)), b.input("row", F32, (2, 1, 3))
    at = b.input("at", np.int64, (2,))
    made = b.add("TensorScatter", cache, row, at)
    graph = b.build({"after": made, "sum": b.add("ReduceSum", made, b.constant([1]))})
    assert caches(graph) == (State("memory", "memory", "after"),)
    session = graphc.compile(graph, target=target, threads=1).session()
    for i in range(4):
        total = session(np.full((2, 1, 3), i + 1, F32), np.full(2, i))
    np.testing.assert_array_equal(total, np.full((2, 1, 3), 10, F32))
    assert dict(session.lengths) == {}
    with pytest.raises(InputError, match="no state grows"):
        session.truncate(1)


def test_a_cache_of_attention():
    b = Builder()
    q, k, v = (b.input(n, F32, (1, HEADS, "new", SIZE)) for n in "qkv")
    before = [b.input(n, F32, (1, HEADS, "old", SIZE)) for n in ("a", "b")]
    y, keys, values = b.add("Attention", q, k, v, None, *before, outputs=3)
    graph = b.build({"y": y, "keys": keys, "values": values})
    assert caches(graph) == (State("a", "a", "keys"), State("b", "b", "values"))
    session, steps = graphc.compile(graph, threads=1).session(), tokens(3)
    for i, step in enumerate(steps):
        close(session(**step), whole(steps[: i + 1]))


def test_states_of_a_session_besides_those_of_the_model():
    b = Builder()
    x, one, two = (b.input(n, F32, (2,)) for n in ("x", "one", "two"))
    graph = b.build({"a": b.add("Add", one, x), "c": b.add("Mul", two, x), "y": b.add("Neg", x)})
    model = graphc.compile(graph, threads=1, states={"one": "a"})
    session = model.session(states={"two": "c"}, two=np.ones(2, F32))
    session(np.full(2, 3, F32)), session(np.full(2, 3, F32))
    assert session.state["one"].tolist() == [6, 6] and session.state["two"].tolist() == [9, 9]
    assert model.states == (State("one", "one", "a"),)
    with pytest.raises(InputError, match="no output 'b' for a state"):
        model.session(states={"two": "b"})
    with pytest.raises(InputError, match="output 'a' is in 2 states"):
        model.session(states={"two": "a"})


def test_a_state_may_be_called_states():
    b = Builder()
    graph = b.build({"next": b.add("Add", b.input("states", F32, (2,)), b.input("x", F32, (2,)))})
    session = graphc.compile(graph, threads=1, states={"states": "next"}).session(states=np.ones(2, F32))
    session(np.ones(2, F32))
    assert session.state["states"].tolist() == [2, 2]


def test_a_default_is_no_state():
    b = Builder()
    graph = b.build({"present": b.add("Add", b.input("past", F32, (2,)), b.input("x", F32, (2,)))})
    proto = to_onnx(graph)
    proto.ir_version = 8
    proto.graph.initializer.add(name="past", dims=[2], data_type=1, float_data=[1, 1])
    model = graphc.compile(proto, threads=1)
    with pytest.raises(InputError, match="'past' has a default"):
        model.session(states={"past": "present"})
    with pytest.raises(InputError, match="no states"):
        model.session()


def test_caches_are_known_of_a_model_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(decoder()).SerializeToString())
    for _ in range(2):
        session, (step,) = graphc.compile(path, threads=1).session(), tokens(1)
        close(session(**step), whole([step]))


# --- truncate, fork ---------------------------------------------------------------------------------------------------
@TARGETS
def test_truncate_takes_steps_back(target: str):
    session, steps = graphc.compile(decoder(), target=target, threads=1).session(), tokens(6)
    for step in steps[:4]:
        session(**step)
    session.truncate(2)
    assert dict(session.lengths) == {"past_key": 2, "past_value": 2}
    taken = steps[:2] + steps[4:]
    for i, step in enumerate(steps[4:]):
        close(session(**step), whole(taken[: 3 + i]))
    session.truncate(4), session.truncate(0)
    close(session(**steps[0]), whole(steps[:1]))


def test_what_truncate_refuses():
    session, steps = graphc.compile(decoder(), threads=1).session(), tokens(2)
    with pytest.raises(InputError, match="has 0 positions"):
        session.truncate(1)
    for step in steps:
        session(**step)
    for length in (3, -1):
        with pytest.raises(InputError, match=f"'past_key' has 2 positions, so it can't be truncated to {length}"):
            session.truncate(length)
    with pytest.raises(InputError, match=r"'key' is no state that grows\n.*past_key, past_value"):
        session.truncate(1, "key")
    session.truncate(1, "past_key")
    assert dict(session.lengths) == {"past_key": 1, "past_value": 2}


@TARGETS
def test_forks_go_on_apart(target: str):
    session, steps = graphc.compile(decoder(), target=target, threads=1).session(), tokens(2)
    for step in steps:
        session(**step)
    one, two = session.fork(), session.fork()
    futures = {id(s): tokens(3) for s in (session, one, two)}
    for i in range(3):
        for s in (session, one, two):
            more = futures[id(s)]
            close(s(**more[i]), whole(steps + more[: i + 1]))
    one.truncate(2)
    assert one.lengths["past_key"] == 2 and two.lengths["past_key"] == 5
    two.reset()
    assert two.lengths["past_key"] == 0 and session.lengths["past_key"] == 5


@pytest.mark.parametrize("reused", [0, 1 << 30], ids=["reused", "small"])
def test_forks_of_states_that_keep_their_shapes(reused: int, monkeypatch: pytest.MonkeyPatch):
    """Arrays that change places must not be those of another session, nor the first values."""
    monkeypatch.setattr("graphc.session.REUSED", reused)
    b = Builder()
    graph = b.build({"next": b.add("Add", b.input("total", F32, (4,)), b.input("x", F32, (4,)))})
    session = graphc.compile(graph, threads=1, states={"total": "next"}).session(total=np.full(4, 100, F32))

    def add(s: graphc.session.Session, *numbers: int) -> None:
        for n in numbers:
            s(np.full(4, n, F32))

    add(session, 1, 2, 3)
    other = session.fork()
    add(session, 10, 10, 10)
    again = other.fork()
    add(other, 20, 20, 20, 20)
    add(session, 10)
    for s, want in ((session, 146), (other, 186), (again, 106)):
        assert s.state["total"].tolist() == [want] * 4
    for s in (session, other, again):
        s.reset()
        assert s.state["total"].tolist() == [100] * 4
        add(s, 1, 1, 1)
    assert [s.state["total"][0] for s in (session, other, again)] == [103] * 3


# Each action with a number that says on which session, and another that says how
ACTIONS = st.tuples(
    st.sampled_from(["step", "step", "several", "fork", "truncate", "reset", "load"]), *[st.integers(0, 99)] * 2
)


@pytest.fixture(scope="module")
def grown() -> graphc.Model:
    return graphc.compile(decoder(), threads=1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, max_size=14))
def test_any_order_of_actions(actions: list[tuple[str, int, int]], grown: graphc.Model, tmp_path: Path):
    """Beside lists of the steps that each session remembers."""
    sessions = [(grown.session(), [])]
    for action, which, how in actions:
        session, taken = sessions[which % len(sessions)]
        if action in ("step", "several"):
            new = tokens(1 if action == "step" else 1 + how % 3)
            got = session.run({n: rows(new, n) for n in "qkv"})["y"]
            taken += new
            close(got[:, :, -1:], whole(taken))
        elif action == "fork" and len(sessions) < 4:
            sessions.append((session.fork(), list(taken)))
        elif action == "truncate":
            length = how % (len(taken) + 1)
            session.truncate(length)
            del taken[length:]
        elif action == "reset":
            session.reset()
            taken.clear()
        elif action == "load":
            session.save(tmp_path / "s")
            sessions[which % len(sessions)] = (grown.load_session(tmp_path / "s"), taken)
        for one, kept in sessions:
            assert one.lengths["past_key"] == len(kept)
            if kept:
                np.testing.assert_array_equal(one.state["past_value"], rows(kept, "v"))


# --- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["session.npz", "no_suffix"])
def test_a_file_goes_on_where_the_session_was(name: str, tmp_path: Path):
    model, steps = graphc.compile(decoder(), threads=1), tokens(4)
    session = model.session()
    session.save(tmp_path / "begin")
    for step in steps[:3]:
        session(**step)
    session.save(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["begin", name]
    other = graphc.compile(decoder(), threads=1).load_session(tmp_path / name)
    close(other(**steps[3]), whole(steps))
    other.reset()
    close(other(**steps[0]), whole(steps[:1]))
    close(model.load_session(tmp_path / "begin")(**steps[0]), whole(steps[:1]))
    session.save(tmp_path / name)  # over it


def test_a_file_keeps_first_values_and_what_the_session_was_told(tmp_path: Path):
    b = Builder()
    graph = b.build({"next": b.add("Add", b.input("total", F32, (2,)), b.input("x", F32, (2,)))})
    model = graphc.compile(graph, threads=1)
    session = model.session(states={"total": "next"}, total=np.ones(2, F32))
    session(np.ones(2, F32))
    session.save(tmp_path / "s")
    other = model.load_session(tmp_path / "s")
    assert other.state["total"].tolist() == [2, 2]
    other.reset()
    assert other.state["total"].tolist() == [1, 1]


def test_a_file_of_another_state(tmp_path: Path):
    b = Builder()
    total, x = b.input("total", F32, (2,)), b.input("x", F32, (2,))
    graph = b.build({"sum": b.add("Add", total, x), "product": b.add("Mul", total, x)})
    graphc.compile(graph, threads=1, states={"total": "sum"}).session().save(tmp_path / "s")
    with pytest.raises(InputError, match=r"has another state of input 'total'\n.*takes output 'product'"):
        graphc.compile(graph, threads=1, states={"total": "product"}).load_session(tmp_path / "s")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int64", "bool"])
def test_files_of_all_dtypes(dtype: str, tmp_path: Path):
    import ml_dtypes

    wanted = np.dtype(getattr(ml_dtypes, dtype, dtype))
    b = Builder()
    x = b.input("x", wanted, (3,))
    graph = b.build({"next": x, "y": b.add("Identity", b.input("s", wanted, (3,)))})
    model = graphc.compile(graph, threads=1, states={"s": "next"})
    session = model.session()
    value = np.array([1, 0, 1]).astype(wanted)
    session(value)
    session.save(tmp_path / "s")
    kept = model.load_session(tmp_path / "s").state["s"]
    assert kept.dtype == wanted and np.array_equal(kept, value)


def test_files_of_strings(tmp_path: Path):
    b = Builder()
    x, kept = b.input("x", object, (2,)), b.input("s", object, (2,))
    model = graphc.compile(b.build({"next": b.add("Identity", x), "y": b.add("Identity", kept)}), states={"s": "next"})
    session = model.session(s=np.array(["a", "b"], object))
    session(np.array(["longer", ""], object))
    session.save(tmp_path / "s")
    assert model.load_session(tmp_path / "s").state["s"].tolist() == ["longer", ""]


def test_files_that_are_not_of_this_model(tmp_path: Path):
    model = graphc.compile(decoder(), threads=1)
    session, path = model.session(), tmp_path / "s"
    session(**tokens(1)[0])
    session.save(path)

    def changed(**more: object) -> Path:
        with np.load(path) as file:
            arrays = {n: file[n] for n in file.files}
        header = json.loads(str(arrays["session"]))
        header.update({n: v for n, v in more.items() if n in header})
        arrays.update({n.replace("_", " "): a for n, a in more.items() if n not in header})
        other = tmp_path / "changed.npz"
        np.savez(other, **{**arrays, "session": np.array(json.dumps(header))})
        return other

    def refused(file: Path, message: str) -> None:
        with pytest.raises(InputError, match=message):
            model.load_session(file)

    names = [["past_key", "past_key", "present_key"], ["past_value", "past_value", "present_value"]]
    assert model.load_session(changed()).lengths["past_key"] == 1
    refused(changed(format=7), "is no file of a session: format 7")
    refused(changed(states=[["k", "gone", "present_key"], names[1]]), "no input 'gone'")
    refused(changed(states=[["past_key", "past_key", "gone"], names[1]]), "no output 'gone'")
    refused(changed(now_0=np.zeros((1, 2, 5, 9), F32)), "state 'past_key' has shape .*, the model wants")
    refused(changed(now_0=np.zeros((1, 2, 5, 4))), "an array is float64, not float32")
    refused(changed(now_0=np.array([{}, None])), "is no file of a session")
    whole_file = path.read_bytes()
    for damaged in (b"", b"nonsense", whole_file[:200], whole_file[:-40]):
        path.write_bytes(damaged)
        refused(path, r"is no file of a session.*\n.*session.save\(path\)")
    np.savez(path, x=np.ones(2))
    refused(path, "is no file of a session")
    np.save(tmp_path / "x.npy", np.ones(2))
    refused(tmp_path / "x.npy", "is no file of a session")
    with pytest.raises(FileNotFoundError):
        model.load_session(tmp_path / "missing")


# --- threads and processes --------------------------------------------------------------------------------------------
def test_sessions_in_threads():
    model = graphc.compile(decoder(), threads=1)
    start, failures = model.session(), []
    for step in (first := tokens(2)):
        start(**step)

    def talk(session: graphc.session.Session, steps: list) -> None:
        try:
            for i, step in enumerate(steps):
                close(session(**step), whole(first + steps[: i + 1]))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=talk, args=(start.fork(), tokens(8))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_both_processes_go_on_after_a_fork():
    """Also where another thread was in a step at that moment, whose lock nobody would give back in the child."""
    session, steps = graphc.compile(decoder(), threads=1).session(), tokens(4)
    for step in steps[:2]:
        session(**step)
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        with session._alone():
            inside.set()
            assert go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(60)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            good = [np.allclose(session(**steps[i]), whole(steps[: i + 1]), atol=1e-5) for i in (2, 3)]
            status = 0 if all(good) else 2
        finally:
            os._exit(status)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for i in (2, 3):
        close(session(**steps[i]), whole(steps[: i + 1]))

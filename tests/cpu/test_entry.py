"""Calls that go straight from Python into a program: the same answers as the long way, and no argument is trusted."""

from __future__ import annotations

import gc
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np
import pytest
from nets import recurrent
from scripts import run_script

import graphc
from graphc.backends.cpu.runtime import entry
from graphc.errors import InputError
from graphc.graph import Builder, Graph
from graphc.model import Model

RNG = np.random.default_rng(0)
F32 = np.float32


def random(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(F32)


def lookup(size: int = 12) -> Graph:
    """at int64[n], x [n, 12] -> y = tanh(table[at] + x) [n, 12], z = x @ w [n, 5]."""
    b, rng = Builder("lookup"), np.random.default_rng(2)
    at, x = b.input("at", np.int64, ("n",)), b.input("x", F32, ("n", size))
    table, w = (b.constant(rng.uniform(-1, 1, shape), F32) for shape in ((9, size), (size, 5)))
    return b.build({"y": b.add("Tanh", b.add("Add", b.add("Gather", table, at), x)), "z": b.add("MatMul", x, w)})


@pytest.fixture(scope="module")
def model() -> Model:
    return graphc.compile(lookup(), threads=1)


def feeds(n: int = 3) -> dict[str, np.ndarray]:
    return {"at": RNG.integers(0, 9, n), "x": random(n, 12)}


def counted(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the quick way says from now on: was the call answered?"""
    quick, said = model._quick, []

    def count(arrays):
        results = quick(arrays)
        said.append(results is not None)
        return results

    monkeypatch.setattr(model, "_quick", count)
    return said


def test_this_interpreter_has_entries():
    assert entry.supported()


def test_the_second_call_is_quick_and_gives_the_same(model: Model, monkeypatch: pytest.MonkeyPatch):
    f = feeds()
    first = model.run(f)
    said = counted(model, monkeypatch)
    again, tupled, mapped = model.run(f), model(f["at"], f["x"]), model.run(MappingProxyType(f))
    assert said == [True] * 3
    assert list(again) == list(first) == ["y", "z"]
    for name, third in zip(first, tupled):
        for a in (again[name], third, mapped[name]):
            np.testing.assert_array_equal(a, first[name])
    arrays = [*first.values(), *again.values(), *tupled]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_an_interpreter_without_entries_gives_the_same(model: Model, monkeypatch: pytest.MonkeyPatch):
    f = feeds()
    want = model.run(f)
    monkeypatch.setattr(entry, "supported", lambda: False)
    other = graphc.compile(lookup(), threads=1)
    for _ in range(2):
        for name, a in other.run(f).items():
            np.testing.assert_array_equal(a, want[name])
    buffer = np.zeros_like(want["z"])
    assert other.run(f, out={"z": buffer})["z"] is buffer
    np.testing.assert_array_equal(buffer, want["z"])
    assert next(iter(other._plans.values())).quick is None


class Array(np.ndarray):
    """A kind of array of the user's own."""


ODD = {
    "a list": lambda a: a.tolist(),
    "a transposed array": lambda a: np.asfortranarray(a) if a.ndim > 1 else a[::1],
    "every second element": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "another byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "a dtype that is only equal": lambda a: a.view(np.dtype(a.dtype.str, metadata={"unit": "m"})),
    "an array of another class": lambda a: a.view(Array),
    "a masked array": np.ma.masked_array,
    "read only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "not aligned": lambda a: np.frombuffer(b"1" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("which", ["at", "x"])
@pytest.mark.parametrize("name", ODD)
def test_whatever_means_the_same_array_gives_the_same(model: Model, name: str, which: str):
    f = feeds()
    want = model.run(f)
    odd = f | {which: ODD[name](f[which])}
    for key, a in model.run(odd).items():
        np.testing.assert_array_equal(a, want[key], err_msg=key)


@pytest.mark.parametrize(
    "wrong",
    [None, 0, 1.5, 10**30, "text", pytest.param(object(), id="object"), F32(3), np.float32, Ellipsis, type, random(3, 11), random(3), random(3, 12, 1),
     random(3, 12).astype(np.float64), np.zeros((3, 12), np.int32), np.array(None), np.zeros((3, 12), "M8[s]")],
    ids=repr,
)  # fmt: skip
def test_what_is_no_such_array_is_refused_and_nothing_is_lost(model: Model, wrong: object):
    f = feeds()
    want = model.run(f)
    with pytest.raises(InputError, match="'x'"):
        model.run(f | {"x": wrong})
    for name, a in model.run(f).items():
        np.testing.assert_array_equal(a, want[name])


def test_another_size_is_planned_not_read_beyond(model: Model, monkeypatch: pytest.MonkeyPatch):
    large, small = feeds(7), feeds(2)
    answers = [model.run(f) for f in (large, small)]
    for f, want in zip((large, small) * 2, answers * 2):
        for name, a in model.run(f).items():
            np.testing.assert_array_equal(a, want[name])
    said = counted(model, monkeypatch)
    model.run(large)
    assert said == [False], "the plan used last was for two rows"


def test_a_position_out_of_range_is_an_error_each_time(model: Model, monkeypatch: pytest.MonkeyPatch):
    f = feeds()
    want = model.run(f)
    bad = f | {"at": np.array([1, 9, 2])}
    for _ in range(3):
        with pytest.raises(InputError, match="9"):
            model.run(bad)
        for name, a in model.run(f).items():
            np.testing.assert_array_equal(a, want[name])


def test_results_go_into_given_arrays(model: Model):
    f = feeds()
    want = model.run(f)
    y = np.empty_like(want["y"])
    got = model.run(f, out={"y": y})
    assert got["y"] is y
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])
    f2 = feeds()
    again = model.run(f2)
    np.testing.assert_array_equal(y, want["y"], err_msg="a later run writes elsewhere")
    assert not np.array_equal(again["y"], y)


def test_values_without_dims_and_without_elements():
    b = Builder("odd")
    s, e = b.input("s", F32, ()), b.input("e", F32, (0, 4))
    model = graphc.compile(b.build({"t": b.add("Add", s, b.constant(1, F32)), "r": b.add("Relu", e)}), threads=1)
    for k in range(3):
        results = model.run({"s": np.array(k, F32), "e": np.zeros((0, 4), F32)})
        assert results["t"].shape == () and results["t"] == k + 1 and results["r"].shape == (0, 4)


def test_arguments_are_neither_kept_nor_lost(model: Model):
    f = feeds()
    model.run(f)
    gc.collect()
    before = [sys.getrefcount(o) for o in (f["at"], f["x"], f["x"].dtype)]
    for _ in range(1000):
        model.run(f)
    assert [sys.getrefcount(o) for o in (f["at"], f["x"], f["x"].dtype)] == before
    results = model.run(f)
    assert [sys.getrefcount(a) for a in results.values()] == [2 + 1] * 2  # the dict, the loop, the call


def test_many_threads_call_it_at_once(model: Model):
    given = [feeds(3) for _ in range(4)]
    want = [model.run(f) for f in given]

    def work(k: int) -> bool:
        return all(all(np.array_equal(a, want[k][name]) for name, a in model.run(given[k]).items()) for _ in range(500))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_has_its_own_workers(threads: int):
    code = """
    import os, sys
    import numpy as np
    import graphc
    from graphc.backends.cpu.runtime import run
    from nets import recurrent

    run.SHARED_STEP = run.SHARED_PROGRAM = 0
    model = graphc.compile(recurrent(), threads=int(sys.argv[1]))
    x = np.random.default_rng(0).random((9, 3, 24), np.float32)
    want = [model.run({"x": x}) for _ in range(3)][0]

    def right():
        return all(np.array_equal(a, want[n]) for n, a in model.run({"x": x}).items())

    executor = next(iter(model._plans.values())).program.executor
    child = os.fork()
    if child == 0:
        ok = executor._pool is None and all(right() for _ in range(3))
        os._exit(0 if ok and (executor._pool is not None) == (sys.argv[1] == "2") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert all(right() for _ in range(3))
    print("ok")
    """
    assert run_script(textwrap.dedent(code), threads).strip() == "ok"


def test_threads_and_recurrent_states():
    x = random(9, 3, 24)
    one, two = (graphc.compile(recurrent(), threads=n) for n in (1, 2))
    for _ in range(3):
        for name, a in two.run({"x": x}).items():
            np.testing.assert_array_equal(a, one.run({"x": x})[name])

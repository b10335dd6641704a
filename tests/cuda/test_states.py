"""States of sessions stay in the device's memory from step to step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from suite import randoms

import graphc
from graphc.backends.cuda.runtime.arrays import DeviceArray
from graphc.backends.cuda.runtime.emulated import EmulatedDevice
from graphc.backends.cuda.runtime.states import StateArray, StateMemory
from graphc.graph import Builder, Graph

TARGET = "cuda:emulate"
HEADS, SIZE, LARGE = 3, 8, 20_000  # float32s of a state whose two arrays change places


def cache() -> Graph:
    """new [batch, heads, k, size] behind past; y: sums of all that there is."""
    b = Builder("cache")
    new = b.input("new", np.float32, ("batch", HEADS, "k", SIZE))
    past = b.input("past", np.float32, ("batch", HEADS, "n", SIZE))
    whole = b.add("Concat", past, new, axis=2)
    return b.build({"y": b.add("ReduceSum", whole, b.constant([2], np.int64)), "present": whole})


def register() -> Graph:
    b = Builder("register")
    x, h = b.input("x", np.float32, (1,)), b.input("h", np.float32, (LARGE,))
    after = b.add("Add", h, x)
    return b.build({"y": b.add("ReduceMax", after), "after": after})


def both() -> Graph:
    """A state that grows beside a large one that keeps its shape."""
    b = Builder("both")
    x, h = b.input("x", np.float32, (1, LARGE)), b.input("h", np.float32, (1, LARGE))
    seen = b.input("seen", np.float32, ("n", LARGE))
    after = b.add("Sub", x, h)
    whole = b.add("Concat", seen, after, axis=0)
    return b.build({"y": b.add("ReduceSum", whole, b.constant([0], np.int64)), "after": after, "whole": whole})


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes of copies, between the host and the device and within it."""
    found: list[int] = []
    copy = EmulatedDevice.copy

    def counted(self: EmulatedDevice, to: int, source: int, nbytes: int, stream: object) -> None:
        found.append(nbytes)
        copy(self, to, source, nbytes, stream)

    monkeypatch.setattr(EmulatedDevice, "copy", counted)
    yield found


def sessions(graph: Graph, **states: str) -> list[graphc.Session]:
    first = {"h": np.zeros(LARGE, np.float32)} if graph.name == "register" else {}
    if graph.name == "both":
        first = {"h": np.zeros((1, LARGE), np.float32), "seen": np.zeros((0, LARGE), np.float32)}
    return [graphc.compile(graph, target=t).session(states, **first) for t in (TARGET, "cpu")]


def agree(pair: list[graphc.Session]) -> None:
    for name, a in pair[0].state.items():
        np.testing.assert_array_equal(a, pair[1].state[name])


@pytest.mark.parametrize("batch", [1, 2])
def test_a_step_copies_nothing_that_is_there(batch: int, copied: list[int]):
    pair = sessions(cache(), past="present")
    for k in (60, 1, 1, 1, 70, 1, 1):
        new = randoms(batch, HEADS, k, SIZE)
        copied.clear()
        got, want = (s(new) for s in pair)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        if k == 1 and pair[0].lengths["past"] not in (61, 132):  # the first of a capacity
            assert sum(copied) < 4 * new.nbytes + 4096  # tables of arguments
    agree(pair)


def test_a_large_state_that_keeps_its_shape(copied: list[int]):
    pair = sessions(register(), h="after")
    for k in range(4):
        copied.clear()
        got, want = (s(np.array([k], np.float32)) for s in pair)
        np.testing.assert_array_equal(got, want)
        assert k == 0 or sum(copied) < 4096
    agree(pair)
    pair[0].reset()
    assert pair[0](np.array([5], np.float32)) == 5


def test_results_are_where_inputs_are_that_are_no_states():
    pair = sessions(both(), h="after", seen="whole")
    model = pair[0]._model
    for k in range(5):
        x = randoms(1, LARGE, seed=k)
        there = k % 2 == 1
        got, want = pair[0](model.to_device(x) if there else x), pair[1](x)
        assert isinstance(got, DeviceArray if there else np.ndarray) and not isinstance(got, StateArray)
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-5, atol=1e-5)
    agree(pair)


def test_forks_go_on_apart():
    pair = sessions(cache(), past="present")
    for s in pair:
        s(randoms(2, HEADS, 5, SIZE)), s(randoms(2, HEADS, 1, SIZE, seed=1))
    forks = [[s, s.fork(), s.fork()] for s in pair]
    for seed in range(4):
        for k in range(3):
            new = randoms(2, HEADS, 1 + k, SIZE, seed=10 * seed + k)
            np.testing.assert_allclose(forks[0][k](new), forks[1][k](new), rtol=1e-5, atol=1e-5)
    for of in zip(*forks):
        agree([*of])


def test_truncated_and_on_disk(tmp_path: Path):
    pair = sessions(cache(), past="present")
    new = [randoms(1, HEADS, k, SIZE) for k in (6, 1, 1)]
    for s, file in zip(pair, ("a.npz", "b.npz")):
        for x in new:
            s(x)
        assert s.lengths == {"past": 8}
        s.truncate(5)
        s.save(tmp_path / file)
        s(new[0])
    agree(pair)
    for file in ("a.npz", "b.npz"):  # either is read by both
        again = [s._model.load_session(tmp_path / file) for s in pair]
        assert again[0].lengths == {"past": 5}
        np.testing.assert_allclose(*(s(new[1]) for s in again), rtol=1e-5, atol=1e-5)
        agree(again)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("length", [0, 1, 5])
@pytest.mark.parametrize("source", ["host", "device", "start"])
def test_first_positions(axis: int, length: int, source: str):
    """Of an array, as of one of NumPy."""
    device = graphc.compile(cache(), target=TARGET)._source.backend
    memory: StateMemory = device.state_memory
    whole, value = randoms(5, 5, 5), randoms(*(length if i == axis else 5 for i in range(3)), seed=1)
    a = memory.empty(whole.shape, whole.dtype)
    memory.write(a, 0, whole)
    np.testing.assert_array_equal(np.asarray(a), whole)
    if source == "device":
        memory.write(a, axis, device.to_device(value))
    elif source == "start":
        other = memory.empty(whole.shape, whole.dtype)
        memory.write(other, axis, value)
        memory.write(a, axis, memory.start(other, axis, length))
    else:
        memory.write(a, axis, value)
    here = (slice(None),) * axis + (slice(length),)
    np.testing.assert_array_equal(np.asarray(memory.start(a, axis, length)), value)
    whole[here] = value
    np.testing.assert_array_equal(np.asarray(a), whole)

"""One arena per model and run at a time: its plans take turns in it, whatever the others have left there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from nets import convnet, recurrent, transformer

import graphc
from graphc.backends.cpu.runtime import arenas
from graphc.backends.cpu.runtime.arenas import Arenas
from graphc.errors import InputError
from graphc.executable import MAX_PLANS
from graphc.graph import Builder, Graph
from graphc.model import Model

RNG = np.random.default_rng(3)
F32 = np.float32


def random(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(F32)


def encoder(rows: int | str = "h") -> Graph:
    """x [n, 8, h, 20]: convolutions with halos, a pool, a resize and a concatenation, as in U-Net."""
    b, rng = Builder("encoder"), np.random.default_rng(4)

    def conv(x, channels: int, size: int = 3, **attrs):
        w = rng.uniform(-1, 1, (channels, x.shape[1], size, size)) / (size * size * x.shape[1]) ** 0.5
        return b.add("Relu", b.add("Conv", x, b.constant(w, F32), pads=[size // 2] * 4, **attrs))

    x = b.input("x", F32, ("n", 8, rows, 20))
    wide = conv(conv(x, 32), 16, 5)
    deep = conv(b.add("MaxPool", wide, kernel_shape=[2, 2], strides=[2, 2]), 32)
    up = b.add("Resize", deep, None, b.constant([1, 1, 2, 2], F32))
    return b.build({"y": conv(b.add("Concat", wide, up, axis=1), 4)})


def pooled(b: Builder, x):
    return b.add("ReduceMax", x, b.constant([1], np.int64), keepdims=False)


def chosen() -> Graph:
    """Shapes that follow from data: a head and tails."""
    b = Builder("chosen")
    x = b.input("x", F32, ("n", 24))
    hidden = b.add("Tanh", b.add("MatMul", x, b.constant(np.random.default_rng(0).uniform(-1, 1, (24, 24)), F32)))
    at = b.add("Squeeze", b.add("NonZero", b.add("Greater", pooled(b, hidden), b.constant(0.9, F32))), b.constant([0]))
    return b.build({"y": b.add("Softmax", b.add("Exp", b.add("Gather", hidden, at)))})


def on_the_host() -> Graph:
    b = Builder("host")
    x = b.input("x", F32, ("n", 12))
    y = b.add("Softmax", b.add("MatMul", x, b.constant(np.ones((12, 12)) / 12, F32)))
    text = b.add("Cast", b.add("Cast", y, to=np.dtype(object)), to="float32")
    return b.build({"y": b.add("Softmax", b.add("Add", text, y)), "text": text})


NETS = {
    "convolutions": (encoder, [(1, 8, 16, 20), (3, 8, 16, 20), (2, 8, 30, 20), (9, 8, 8, 20)]),
    "convnet": (convnet, [(1, 3, 28, 28), (4, 3, 28, 28), (2, 3, 28, 28)]),
    "transformer": (transformer, [(1, 5, 32), (3, 17, 32), (2, 1, 32)]),
    "recurrent": (recurrent, [(9, 3, 24), (2, 1, 24), (5, 7, 24)]),
    "shapes from data": (chosen, [(40, 24), (7, 24), (90, 24)]),
    "host steps": (on_the_host, [(3, 12), (40, 12), (1, 12)]),
}


def arenas_of(model: Model) -> Arenas:
    return model._source.backend._arenas


def bits(model: Model, x: np.ndarray) -> list[bytes]:
    return [a.tobytes() for a in model.run({"x": x}).values()]


def spoil(model: Model) -> None:
    """Signalling numbers everywhere in the idle arenas."""
    for arena in arenas_of(model).free:
        words = arena.memory[: arena.memory.nbytes // 4 * 4].view(np.uint32)
        words[:] = 0x7FA00000


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_plans_take_turns_in_one_arena(name: str, threads: int):
    make, shapes = NETS[name]
    graph, xs = make(), [random(*shape) for shape in shapes]
    exact = {"threads": threads, "disabled": ["winograd"]}  # which other shapes decide
    want = [bits(graphc.compile(graph, **exact), x) for x in xs]  # each in memory of its own
    model = graphc.compile(graph, **exact)
    for _ in range(3):
        for i in [*range(len(xs)), 0, 0, *reversed(range(len(xs)))]:
            spoil(model)
            assert bits(model, xs[i]) == want[i]
    (arena,) = arenas_of(model).free
    assert arena.memory.nbytes == max(1, arenas_of(model).nbytes)


def test_the_arena_is_as_large_as_the_largest_plan():
    model = graphc.compile(encoder(), threads=1)
    sizes = []
    for n in range(1, 13):
        model(random(n, 8, 16, 20))
        sizes.append(model.plan({"x": (n, 8, 16, 20)}).memory.arena)
        (arena,) = arenas_of(model).free
        assert max(sizes) <= arena.memory.nbytes <= 1.5 * max(sizes)
    assert sizes == sorted(sizes) and sizes[-1] > 4 * sizes[0]


def test_callers_at_once_have_an_arena_each():
    model = graphc.compile(encoder(), threads=1)
    xs = [random(n, 8, h, 20) for n, h in ((1, 16), (2, 16), (5, 12), (3, 30))]
    want = [bits(model, x) for x in xs]
    start = threading.Barrier(8)

    def caller(k: int) -> bool:
        start.wait()
        return all(bits(model, xs[i]) == want[i] for i in (np.arange(40) * (k + 1)) % len(xs))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(caller, range(8)))
    assert 1 <= len(arenas_of(model).free) <= 8
    assert all(a.memory.nbytes <= arenas_of(model).nbytes for a in arenas_of(model).free)


def test_idle_arenas_go(monkeypatch: pytest.MonkeyPatch):
    model, x = graphc.compile(encoder(), threads=1), random(1, 8, 16, 20)
    want = bits(model, x)
    pool = arenas_of(model)
    taken = [pool.take() for _ in range(5)]  # as five runs at once do
    pool.free += taken
    for _ in range(10):
        assert bits(model, x) == want
    assert len(pool.free) == 5, "it is too early"
    monkeypatch.setattr(arenas, "IDLE", 0.0)
    pool._next_look = 0.0
    for _ in range(3):
        assert bits(model, x) == want
    assert len(pool.free) == 1


def test_forgotten_plans_leave_nothing_in_the_arena():
    model = graphc.compile(on_the_host(), threads=1)
    for n in reversed(range(1, MAX_PLANS + 20)):  # the largest first: a larger arena begins anew
        model.prepare({"x": (n, 12)})
        model(random(n, 12))
    (arena,) = arenas_of(model).free
    assert len(model._plans) == len(arena.contexts) == MAX_PLANS


def test_a_run_that_fails_leaves_the_arena_whole():
    b = Builder("lookup")
    x, at = b.input("x", F32, ("n", 4)), b.input("at", np.int64, ("m",))
    model = graphc.compile(b.build({"y": b.add("Softmax", b.add("Exp", b.add("Gather", x, at)))}), threads=2)
    for n in (3, 50, 3):
        x, good = random(n, 4), np.arange(n)
        want = model(x, good)
        for _ in range(3):
            with pytest.raises(InputError, match="out of range"):
                model(x, np.full(n, n))
            np.testing.assert_array_equal(model(x, good), want)
    assert len(arenas_of(model).free) == 1


def test_a_profile_takes_an_arena_and_gives_it_back():
    model, x = graphc.compile(encoder(), threads=1), random(2, 8, 16, 20)
    want = bits(model, x)
    for _ in range(2):
        model.plan({"x": x.shape}).profile({"x": x}, 2)
        assert bits(model, x) == want
    assert len(arenas_of(model).free) == 1

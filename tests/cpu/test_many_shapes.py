"""Plans for many shapes under callers at once, after a fork, and over thousands of shapes."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from many_sizes import alone
from nets import convnet, recurrent, transformer, weights

import graphc
from graphc import classes
from graphc.graph import Builder, Graph
from graphc.model import Model

F32 = np.float32
MIB = 1 << 20

NETS: dict[str, tuple[Callable[[], Graph], Callable[[int, int], tuple[int, ...]]]] = {
    "convnet": (convnet, lambda a, b: (a, 3, 28, 28)),
    "transformer": (transformer, lambda a, b: (a, b, 32)),
    "recurrent": (recurrent, lambda a, b: (b, a, 24)),
}


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "STRICT", True)


def inputs(name: str, count: int, seed: int = 0, most: tuple[int, int] = (6, 40)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [NETS[name][1](*(int(rng.integers(1, n + 1)) for n in most)) for _ in range(count)]
    return [rng.standard_normal(shape, F32) for shape in shapes]


def bits(model: Model, x: np.ndarray) -> list[bytes]:
    return [a.tobytes() for a in model.run({"x": x}).values()]


def bits_alone(graph: Graph, x: np.ndarray, threads: int) -> list[bytes]:
    results = alone(graph, {"x": x}, threads=threads, disabled=["winograd", "strassen"])
    return [a.tobytes() for a in results.values()]


def arena(model: Model) -> int:
    return sum(a.memory.nbytes for a in model._source.backend._arenas.free)


def compiled(name: str, threads: int = 1) -> Model:
    return graphc.compile(NETS[name][0](), threads=threads, disabled=["winograd", "strassen"])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_random_shapes_in_any_order(name: str, threads: int):
    xs = inputs(name, 12)
    want = [bits_alone(NETS[name][0](), x, threads) for x in xs]
    model = compiled(name, threads)
    for i in [*range(12), *np.random.default_rng(1).integers(0, 12, 40)]:
        assert bits(model, xs[i]) == want[i], xs[i].shape
    assert len(model._plans) <= 2 and 1 <= len(model._many) <= 8  # ones alone are a shape of their own


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_callers_at_once(name: str, threads: int):
    """Of a model that nobody has called before: plans are made meanwhile, too."""
    xs = inputs(name, 10, seed=2)
    want = [bits_alone(NETS[name][0](), x, threads) for x in xs]
    model, start = compiled(name, threads), threading.Barrier(4)

    def caller(k: int) -> list[int]:
        order = np.random.default_rng(k).permutation(np.repeat(np.arange(10), 8))
        start.wait()
        return [int(i) for i in order if bits(model, xs[i]) != want[i]]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(caller, range(4))) == [[]] * 4


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_goes_on_with_the_plans_and_makes_others(threads: int):
    xs = inputs("transformer", 8, seed=3)
    want = [bits_alone(transformer(), x, threads) for x in xs]
    model = compiled("transformer", threads)
    for x in xs[:4]:
        bits(model, x)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if [bits(model, x) for x in xs] == want else 1)
        finally:
            os._exit(2)
    assert [bits(model, x) for x in xs] == want
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc tells how much memory is resident")
def test_thousands_of_shapes_take_no_more_memory_than_the_largest():
    model = compiled("transformer")
    largest = np.ones((6, 40, 32), F32)
    for x in (largest[:1, :8], largest, *inputs("transformer", 300, seed=4), largest):
        model(x)
    many, before = len(model._many), (arena(model), resident())
    for seed in range(200):
        for x in inputs("transformer", 10, seed):
            model(x)
    assert arena(model) == before[0] and len(model._many) <= many + 2 and len(model._plans) <= 2
    assert resident() - before[1] < 8 * MIB


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_sample_by_sample_take_any_number_of_samples(threads: int):
    b = Builder("deep")
    x = b.input("x", F32, ("n", 16, 96, 96))
    for _ in range(3):
        x = b.add("Relu", b.add("Conv", x, weights(b, 16, 16, 3, 3), pads=[1] * 4))
    graph = b.build({"y": x})
    model = graphc.compile(graph, threads=threads, disabled=["winograd"])
    for n in (2, 9, 3, 12, 5):
        x = np.random.default_rng(n).standard_normal((n, 16, 96, 96), F32)
        assert bits(model, x) == bits_alone(graph, x, threads)
    (many,) = model._many
    assert [s.kernel for s in many.plan_for([np.zeros((9, 16, 96, 96), F32)]).steps] == ["nested"]


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_of_a_recurrent_layer_share_plans(threads: int):
    """Rows of a tile are looked up by the batch: not every batch has a plan of its own."""
    rng = np.random.default_rng(0)
    b = Builder("lstm")
    x = b.input("x", F32, ("steps", "batch", 24))
    w, r = (b.constant(rng.standard_normal((1, 4 * 96, n), F32) / 8) for n in (24, 96))
    graph = b.build([b.add("LSTM", x, w, r, outputs=3, hidden_size=96)[0]])
    model = graphc.compile(graph, threads=threads)
    for batch in (5, *range(2, 17)):
        given = {"x": rng.standard_normal((30, batch, 24), F32)}
        (got,) = model.run(given).values()
        (want,) = alone(graph, given, threads=threads).values()
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)  # of at most 1; sums of 120 products, in other tiles
    assert len(model._many) <= 4

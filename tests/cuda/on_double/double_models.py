"""Whole models on a GPU: plans, host nodes, threads, errors."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner
from controls import held, loop
from driver_double import State
from marks import of
from nets import recurrent, weights

import graphc
from graphc import pickled
from graphc.backends.cuda.runtime.gpu import gpu
from graphc.cli import main
from graphc.compiler import compile as compile_on
from graphc.errors import DeviceError, InputError, OutOfMemoryError, UnsupportedError
from graphc.graph import Builder, Graph, Value

LENET = "examples/zoo/lenet5.yaml"


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def mlp(width: int = 40) -> Graph:
    b = Builder("mlp")
    x = b.input("x", np.float32, ("n", width))
    h = b.add("Relu", b.add("Gemm", x, weights(b, width, 64), weights(b, 64)))
    return b.build({"y": b.add("Softmax", b.add("Gemm", h, weights(b, 64, 10))), "h": h})


def with_host_nodes() -> Graph:
    """Kernels, a node of the CPU, kernels, another one, kernels."""
    b = Builder("host")
    x = b.input("x", np.float32, ("n", 3, 3))
    y = b.add("Exp", b.add("Det", b.add("Neg", x)))
    z = b.add("Mul", b.add("Unsqueeze", b.add("Unsqueeze", y, b.constant([1])), b.constant([2])), x)
    return b.build({"z": z, "det": b.add("Det", b.add("Add", z, x)), "x": x})


def gather() -> Graph:
    b = Builder("gather")
    x, at = b.input("x", np.float32, (8, 5)), b.input("at", np.int64, ("n",))
    return b.build({"y": b.add("Relu", b.add("Gather", x, at))})


def agree(model: graphc.Model, other: graphc.Model, feeds: dict[str, np.ndarray]) -> None:
    want = other.run(feeds)
    got = model.run(feeds)
    assert list(got) == list(want)
    for name, y in got.items():
        assert isinstance(y, np.ndarray) and y.dtype == want[name].dtype
        np.testing.assert_allclose(y, want[name], rtol=0, atol=1e-5 * max(np.abs(want[name]).max(initial=0), 1e-6))


# --- networks ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"host": True}])
def test_lenet(gpu_double: State, options: dict):
    model, other = graphc.compile(LENET, target="cuda", **options), graphc.compile(LENET)
    for seed, n in enumerate((1, 3, 1, 1, 3)):  # two plans, which share memory
        agree(model, other, {"image": random(n, 1, 28, 28, seed=seed)})
    steps = model.plan({"image": (1, 1, 28, 28)}).steps
    assert all("32 registers" in s.reason for s in steps)
    assert gpu_double.calls["cuGraphInstantiateWithFlags"] == 3 and gpu_double.calls["cuLaunchKernel"] == 0
    assert sum(gpu_double.launched.values()) == 5 * len(steps)


def test_an_mlp_of_many_sizes(gpu_double: State):
    model, other = graphc.compile(mlp(), target="cuda"), graphc.compile(mlp())
    for seed, n in enumerate((1, 70, 2, 0, 33, 1)):
        agree(model, other, {"x": random(n, 40, seed=seed)})


def test_recurrent_layers(gpu_double: State):
    model, other = graphc.compile(recurrent(), target="cuda"), graphc.compile(recurrent())
    for seed, (length, n) in enumerate([(5, 2), (1, 1), (5, 2)]):
        agree(model, other, {"x": random(length, n, 24, seed=seed)})


@pytest.mark.parametrize("name, gates", [("LSTM", 4), ("GRU", 3)])
def test_a_layer_as_one_grid(gpu_double: State, name: str, gates: int):
    """All of whose blocks run at once: no more than there are multiprocessors. Again and again, of other lengths."""
    b, hidden = Builder("persistent"), 128
    shapes = (1, gates * hidden, 5), (1, gates * hidden, hidden)
    w, r = (b.constant(random(*s, seed=i) / 8) for i, s in enumerate(shapes))
    graph = b.build({"y": b.add(name, b.input("x", np.float32, ("steps", 1, 5)), w, r, outputs=2)[0]})
    model, other = graphc.compile(graph, target="cuda"), graphc.compile(graph, target="reference")
    for steps in (12, 12, 3, 20, 12):
        agree(model, other, {"x": random(steps, 1, 5, seed=steps)})
    (step,) = (s for s in model.plan({"x": (12, 1, 5)}).steps if s.algorithm == "persistent")
    assert step.reason.startswith("4 blocks at once"), step.reason
    assert gpu_double.calls["cuGraphKernelNodeSetAttribute"] and not gpu_double.calls["cuLaunchKernel"]


def test_nodes_of_the_host(gpu_double: State):
    model, other = graphc.compile(with_host_nodes(), target="cuda", host=True), graphc.compile(with_host_nodes())
    for seed, n in enumerate((4, 4, 1, 0, 4)):
        agree(model, other, {"x": random(n, 3, 3, seed=seed)})


def test_results_that_are_inputs_and_constants(gpu_double: State):
    b = Builder("given")
    x = b.input("x", np.float32, (3,))
    y = b.add("Relu", x)
    graph = b.build({"input": x, "constant": b.constant(np.ones(3, np.float32)), "one": y, "two": y})
    model, given = graphc.compile(graph, target="cuda"), np.array([-1, 2, 3], np.float32)
    for _ in range(2):
        got = model.run({"x": given})
        assert [r.tolist() for r in got.values()] == [[-1, 2, 3], [1, 1, 1], [0, 2, 3], [0, 2, 3]]
        for number, result in enumerate(got.values()):
            result[...] = 10 + number
        assert [r[0] for r in got.values()] == [10, 11, 12, 13] and given[0] == -1


def test_arrays_of_callers_for_results(gpu_double: State):
    model, other = graphc.compile(mlp(), target="cuda"), graphc.compile(mlp())
    out = {"y": np.empty((6, 10), np.float32), "h": np.empty((6, 64), np.float32)}
    for seed in range(3):
        x = random(6, 40, seed=seed)
        got = model.run({"x": x}, out=out if seed else {"h": out["h"]})
        x[...] = 0  # theirs again
        want = other.run({"x": random(6, 40, seed=seed)})
        assert got["h"] is out["h"]
        for name, y in got.items():
            np.testing.assert_allclose(y, want[name], atol=1e-5)


def test_shapes_that_follow_from_data(gpu_double: State):
    b = Builder("nonzero")
    x = b.input("x", np.float32, ("n",))
    kept = b.add("Gather", x, b.add("Squeeze", b.add("NonZero", b.add("Relu", x)), b.constant([0])))
    model = graphc.compile(b.build([b.add("Neg", kept)]), target="cuda", host=True)
    for seed in range(3):
        x = random(20, seed=seed)
        np.testing.assert_array_equal(model(x), -x[x > 0])


def controlled() -> Graph:
    """A branch by what is computed, then a loop of as many turns, with positions that may be out of range."""
    b = Builder("controlled")
    x, turns, at = b.input("x", np.float32, (8,)), b.input("turns", np.int64, ()), b.input("at", np.int64, ())
    then = held([("a", np.float32, (8,))], lambda i, a: [i.add("Exp", a)], "then")
    other = held([("b", np.float32, (8,))], lambda i, a: [i.add("Neg", a)], "other")
    large = b.add("Greater", b.add("ReduceSum", x, b.constant([0]), keepdims=0), b.constant(np.float32(0)))
    y = b.add("If", large, x, then_branch=then, else_branch=other)

    def turn(i: Builder, number: Value, going: Value, v: Value, at: Value) -> list[Value]:
        one = i.add("Gather", v, i.add("Mul", number, at))
        return [i.add("Less", one, i.constant(np.float32(50))), i.add("Add", v, one)]

    (z,) = loop(b, turns, None, [y], [at], turn, 1)
    return b.build({"y": y, "z": z})


def test_branches_and_loops(gpu_double: State):
    model, other = graphc.compile(controlled(), target="cuda"), graphc.compile(controlled())
    for seed, (turns, at) in enumerate([(3, 1), (0, 5), (8, 1), (7, 2), (2, 7), (30, 0)]):
        feeds = {"x": random(8, seed=seed), "turns": np.array(turns), "at": np.array(at)}
        try:
            agree(model, other, feeds)
        except InputError as error:
            assert turns == 7 and at == 2, error  # in turn 4
            with pytest.raises(InputError, match="8"):
                model.run(feeds)


@of({"watch": True}, {"watch": True, "order": "at once"})
def test_kernels_touch_memory_that_is_there(made: State):
    """Every access of every thread lies in memory that is allocated."""
    for source, feeds, options in (
        (mlp(), {"x": random(5, 40)}, {}),
        (with_host_nodes(), {"x": random(4, 3, 3)}, {"host": True}),
        (gather(), {"x": random(8, 5), "at": np.array([0, 7, -8])}, {}),
    ):
        model = graphc.compile(source, target="cuda", **options)
        for _ in range(2):
            agree(model, graphc.compile(source), feeds)
        del model


# --- memory -----------------------------------------------------------------------------------------------------------
def test_models_give_their_memory_back(gpu_double: State):
    def held() -> dict[str, int]:
        return {name: n for name, n in gpu_double.left().items() if n}

    first = graphc.compile(LENET, target="cuda")
    first(random(1, 1, 28, 28))
    before = held()
    second = graphc.compile(mlp(), target="cuda")
    for n in (1, 2, 3):
        second(random(n, 40))
    assert held() != before
    del second
    assert held() == before
    for seed in range(3):
        agree(first, graphc.compile(LENET), {"image": random(1, 1, 28, 28, seed=seed)})
    assert held() == before
    del first
    assert held() == {}


def test_constants_are_brought_there_once(late: State):
    model = graphc.compile(mlp(), target="cuda")
    model(random(2, 40))
    held = late.left()["device"]
    model(random(3, 40))
    assert late.left()["device"] - held < 40 * 64 * 4


@of({"memory": 300_000})
def test_full_memory(made: State):
    """An input that is too large; smaller ones go on. What the failed run had is free again."""
    model, other = graphc.compile(mlp(), target="cuda"), graphc.compile(mlp())
    agree(model, other, {"x": random(2, 40)})
    for _ in range(3):
        with pytest.raises(OutOfMemoryError, match="memory is full"):
            model(random(5000, 40))
        agree(model, other, {"x": random(2, 40)})
        agree(model, other, {"x": random(20, 40)})
    made.expect("OUT_OF_MEMORY")


@of({"memory": 1000})
def test_no_room_for_constants(made: State):
    with pytest.raises(OutOfMemoryError, match="memory is full"):
        graphc.compile(mlp(), target="cuda")(random(2, 40))
    made.expect("OUT_OF_MEMORY")


# --- errors -----------------------------------------------------------------------------------------------------------
def test_positions_out_of_range(gpu_double: State):
    model, other = graphc.compile(gather(), target="cuda"), graphc.compile(gather())
    for at in ([1, 2], [0, 8], [7, -8], [-9], [3, 3, 3], []):
        feeds = {"x": random(8, 5), "at": np.array(at, np.int64)}
        if max(at, default=0) < 8 and min(at, default=0) >= -8:
            agree(model, other, feeds)
            continue
        with pytest.raises(InputError) as want:
            other.run(feeds)
        with pytest.raises(InputError) as error:
            model.run(feeds)
        assert str(error.value) == str(want.value)


@pytest.mark.parametrize("status", ["ILLEGAL_ADDRESS", "LAUNCH_FAILED"])
def test_a_kernel_that_fails(late: State, status: str):
    model = graphc.compile(mlp(), target="cuda")
    late.launches_fail = [status]
    for _ in range(2):
        with pytest.raises(DeviceError, match=status) as error:
            model(random(2, 40))
        assert "can't use the GPU any more" in str(error.value)
    late.expect(status)
    del model, error


@pytest.mark.parametrize("name", ["cuGraphLaunch", "cuMemcpyAsync", "cuMemHostAlloc", "cuGraphInstantiateWithFlags"])
def test_after_an_error_a_model_goes_on(late: State, name: str):
    model, other = graphc.compile(mlp(), target="cuda"), graphc.compile(mlp())
    for n in (2, 2, 3):
        late.refuse[name] = ["OPERATING_SYSTEM"]
        if n == 2 or name != "cuMemHostAlloc":
            try:
                model(random(n, 40))
            except DeviceError as error:
                assert "OPERATING_SYSTEM" in str(error)
        late.refuse.clear()
        agree(model, other, {"x": random(n, 40)})
    late.refused.clear()


@of({"devices": 0})
def test_no_gpu(made: State):
    with pytest.raises(UnsupportedError, match="finds no GPU") as error:
        graphc.compile(LENET, target="cuda")
    assert all(text in str(error.value) for text in ("arch='sm_90'", "cuda:emulate", "target='cpu'"))
    made.expect("NO_DEVICE")


@of({"version": 11_080})
def test_an_old_driver(made: State):
    with pytest.raises(UnsupportedError, match=r"for CUDA 11\.8, 12\.0 is needed"):
        graphc.compile(LENET, target="cuda")


@of({"devices": 2})
def test_a_gpu_of_many(made: State):
    other = graphc.compile(mlp())
    models = [compile_on(mlp(), target="cuda", device=n) for n in (1, 0, 1)]
    for _ in range(2):
        for model in models:
            agree(model, other, {"x": random(3, 40)})
    with pytest.raises(UnsupportedError, match="no GPU 2"):
        compile_on(mlp(), target="cuda", device=2)


@of({"arch": (8, 0)})
def test_an_older_gpu(made: State):
    agree(graphc.compile(mlp(), target="cuda"), graphc.compile(mlp()), {"x": random(3, 40)})


# --- profile ----------------------------------------------------------------------------------------------------------
def test_times_of_steps(gpu_double: State):
    model = graphc.compile(with_host_nodes(), target="cuda", host=True)
    feeds = {"x": random(4, 3, 3)}
    times = model.plan({"x": (4, 3, 3)}).profile(feeds, 3)
    steps = model.plan({"x": (4, 3, 3)}).steps
    assert len(times) == len(steps) and all((t == 0) == s.host for t, s in zip(times, steps))
    agree(model, graphc.compile(with_host_nodes()), feeds)


# --- threads and models -----------------------------------------------------------------------------------------------
def test_threads_share_a_model(gpu_double: State):
    model, other = graphc.compile(mlp(), target="cuda"), graphc.compile(mlp())
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(6):
                agree(model, other, {"x": random(1 + (number + i) % 3, 40, seed=10 * number + i)})
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed
    assert gpu_double.stack == []


def test_models_beside_each_other(gpu_double: State):
    pairs = [(graphc.compile(s, target="cuda"), graphc.compile(s)) for s in (mlp(), LENET, gather(), mlp())]
    for seed in range(3):
        for model, other in pairs:
            feeds = {
                "x": {"x": random(3, 40, seed=seed)},
                "image": {"image": random(2, 1, 28, 28, seed=seed)},
            }.get(model.inputs[0].name, {})
            if len(model.inputs) == 2:
                feeds = {"x": random(8, 5, seed=seed), "at": np.array([seed, 2])}
            agree(model, other, feeds)
    assert len(gpu(0)._functions) == sum(gpu_double.calls[n] for n in ["cuModuleLoadData"])


# --- around them ------------------------------------------------------------------------------------------------------
def test_sessions(gpu_double: State):
    """States that keep their shape, and one that grows."""
    b = Builder("step")
    x, h, seen = (
        b.input("x", np.float32, (1, 6)),
        b.input("h", np.float32, (1, 6)),
        b.input("seen", np.float32, ("n", 6)),
    )
    after = b.add("Tanh", b.add("Add", b.add("Gemm", x, weights(b, 6, 6)), h))
    graph = b.build({"y": b.add("Exp", after), "h2": after, "seen2": b.add("Concat", seen, after, axis=0)})
    states = {"h": "h2", "seen": "seen2"}
    first = {"h": np.zeros((1, 6), np.float32), "seen": np.zeros((0, 6), np.float32)}
    sessions = [graphc.compile(graph, target=t, states=states).session(**first) for t in ("cuda", "cpu")]
    for seed in range(5):
        got, want = (s(random(1, 6, seed=seed)) for s in sessions)
        np.testing.assert_allclose(got, want, atol=1e-5)
    for name in states:
        np.testing.assert_allclose(sessions[0].state[name], sessions[1].state[name], atol=1e-5)


def test_states_stay_on_the_gpu(gpu_double: State):
    """A cache that grows, and a large state whose two arrays change places: sessions of one model in two threads, forks, inputs of
    the host and of the GPU."""
    b = Builder("step")
    x, h = b.input("x", np.float32, (1, 1, 20_000)), b.input("h", np.float32, (1, 1, 20_000))
    seen = b.input("seen", np.float32, (1, "n", 20_000))
    after = b.add("Sub", x, h)
    whole = b.add("Concat", seen, after, axis=1)
    graph = b.build({"y": b.add("ReduceSum", whole, b.constant([1], np.int64)), "h2": after, "seen2": whole})
    models = [graphc.compile(graph, target=t, states={"h": "h2", "seen": "seen2"}) for t in ("cuda", "cpu")]
    first = {"h": np.zeros((1, 1, 20_000), np.float32), "seen": np.zeros((1, 0, 20_000), np.float32)}
    wrong, workspaces = [], models[0]._source.backend._workspaces

    def steps(base: int) -> None:
        pair, results, elsewhere = [m.session(**first) for m in models], [], []
        for k in range(12):
            given = random(1, 1, 20_000, seed=base + k)
            there = given
            if 3 < k < 11:
                there = models[0].to_device(given)
                with gpu(0).current():
                    elsewhere.append(
                        workspaces.take(1)
                    )  # so that the step is given to another stream than the one before
            results.append((pair[0](there), pair[1](given)))  # of which those on the GPU may still be under way
            if k == 6:  # who goes on from here, and the one that stays behind, are read at the end
                old, pair = pair, [s.fork() for s in pair]
        if not all(np.allclose(np.asarray(got), want, rtol=1e-5, atol=1e-5) for got, want in results):
            wrong.append(base)
        for s in (old, pair):
            if not all(np.allclose(a, s[1].state[n], rtol=1e-5, atol=1e-5) for n, a in s[0].state.items()):
                wrong.append((base, s))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(steps, (0, 100, 200)))
    assert not wrong


def test_a_pickled_model(gpu_double: State):
    model = graphc.compile(mlp(), target="cuda")
    again = pickle.loads(pickle.dumps(model))
    agree(again, graphc.compile(mlp()), {"x": random(3, 40)})
    pickled.forget()


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--batch", "1"],
        ["explain", "--batch", "2"],
        ["compile", "--batch", "1"],
    ],
)
def test_the_command_line(late: State, command: list[str]):
    done = CliRunner().invoke(main, [command[0], LENET, *command[1:], "--target", "cuda"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert late.launched or command[0] != "run"

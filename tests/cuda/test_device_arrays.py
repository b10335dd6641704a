"""Arrays of the device in and out, memory, threads: the runner, on the emulator as the device."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from suite import randoms

import graphc
from graphc.backends.cuda.runtime.arrays import DeviceArray, Given
from graphc.backends.cuda.runtime.emulated import emulator
from graphc.errors import InputError
from graphc.graph import Builder, Graph


def on_device(a: np.ndarray, shift: int = 0) -> DeviceArray:
    """The array in the device's memory, `shift` bytes behind where memory begins."""
    device = emulator()
    stream = device.stream()
    address = device.allocate(a.nbytes + shift) + shift
    made = Given(device, address, a.shape, a.dtype, stream)
    device.copy(address, np.ascontiguousarray(a).ctypes.data, a.nbytes, stream)
    return made


def doubled(shape: tuple[int, ...] = (4, 6)) -> graphc.Graph:
    """Two inputs, two results, a constant."""
    b = Builder("doubled")
    x, y = b.input("x", np.float32, shape), b.input("y", np.float32, shape)
    s = b.add("Add", x, y)
    return b.build({"sum": s, "twice": b.add("Mul", s, b.constant(np.float32(2)))})


def with_host_node() -> graphc.Graph:
    """Det has no kernel anywhere: what it reads comes to the host, what it makes goes back."""
    b = Builder("host")
    x = b.input("x", np.float32, (5, 3, 3))
    return b.build([b.add("Relu", b.add("Det", b.add("Neg", x)))])


@pytest.mark.parametrize("shift", [0, 4])
def test_inputs_on_the_device_give_results_there(shift: int):
    model = graphc.compile(doubled(), target="cuda:emulate")
    x, y = randoms(4, 6), randoms(4, 6)
    for _ in range(3):
        got = model.run({"x": on_device(x, shift), "y": on_device(y, shift)})
        assert all(isinstance(r, DeviceArray) for r in got.values())
        np.testing.assert_array_equal(got["sum"].numpy(), x + y)
        np.testing.assert_array_equal(np.asarray(got["twice"]), 2 * (x + y))


def test_arrays_that_the_model_brings_there():
    model = graphc.compile(doubled(), target="cuda:emulate")
    x, y = randoms(4, 6), randoms(4, 6)
    there = model.to_device(y)
    np.testing.assert_array_equal(there.numpy(), y)
    np.testing.assert_array_equal(model(x, there)[0].numpy(), x + y)
    with pytest.raises(InputError, match="target 'cpu' has no memory of its own"):
        graphc.compile(doubled()).to_device(y)


@pytest.mark.parametrize(
    "given",
    [[1, 2], 3.5, True, np.array(7, ">i4"), np.arange(6, dtype=">f4"), np.arange(24).reshape(4, 6).T, np.zeros((0, 3))],
    ids=repr,
)
def test_what_can_go_there(given: object):
    there = graphc.compile(doubled(), target="cuda:emulate").to_device(given)
    want = np.asarray(given)
    assert there.dtype.isnative and there.dtype == want.dtype.newbyteorder("=") and there.shape == want.shape
    np.testing.assert_array_equal(there.numpy(), want)
    np.testing.assert_array_equal(graphc.compile(doubled(), target="cuda:emulate").to_device(there).numpy(), want)


@pytest.mark.parametrize(
    "given", [None, {}, "a", np.array(["a", None]), np.array(["a"]), np.zeros(2, "M8[s]")], ids=repr
)
def test_only_numbers_go_there(given: object):
    with pytest.raises(InputError, match="holds numbers, not"):
        graphc.compile(doubled(), target="cuda:emulate").to_device(given)


def test_uneven_rows_do_not_go_there():
    with pytest.raises(InputError, match="can't be read"):
        graphc.compile(doubled(), target="cuda:emulate").to_device([[1], [1, 2]])


def test_one_input_on_the_device_is_enough():
    model = graphc.compile(doubled(), target="cuda:emulate")
    x, y = randoms(4, 6), randoms(4, 6)
    first = model.run({"x": x, "y": on_device(y)})
    assert isinstance(first["sum"], DeviceArray)
    again = model.run({"x": first["sum"], "y": x})  # results are inputs of the next run
    np.testing.assert_array_equal(again["sum"].numpy(), x + y + x)
    np.testing.assert_array_equal(model.run({"x": x, "y": y})["sum"], x + y)


@pytest.mark.parametrize("shift", [0, 4])
def test_results_go_where_the_caller_says(shift: int):
    model = graphc.compile(doubled(), target="cuda:emulate")
    x, y = randoms(4, 6), randoms(4, 6)
    there = on_device(np.zeros((4, 6), np.float32), shift)
    got = model.run({"x": x, "y": y}, out={"twice": there}, stream=7)
    assert got["twice"].address == there.address
    np.testing.assert_array_equal(there.numpy(), 2 * (x + y))
    with pytest.raises(InputError, match="share memory"):
        model.run({"x": there, "y": y}, out={"twice": there})


def test_nodes_of_the_host_between_kernels():
    model = graphc.compile(with_host_node(), target="cuda:emulate", host=True)
    x = randoms(5, 3, 3)
    want = np.maximum(np.linalg.det(-x), 0)
    np.testing.assert_allclose(model(x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model(on_device(x)).numpy(), want, rtol=1e-4, atol=1e-5)


def test_shapes_that_follow_from_data():
    b = Builder("nonzero")
    x = b.input("x", np.float32, ("n",))
    model = graphc.compile(
        b.build([b.add("Neg", b.add("Gather", x, b.add("Squeeze", b.add("NonZero", b.add("Relu", x)))))]),
        target="cuda:emulate", host=True,
    )  # fmt: skip
    x = randoms(20)
    np.testing.assert_array_equal(np.asarray(model(on_device(x))), -x[x > 0])


# --- sessions -----------------------------------------------------------------------------------------------------------
def running_sum() -> Graph:
    b = Builder("sum")
    x, h = (b.input(n, np.float32, ("n", 6)) for n in "xh")
    after = b.add("Add", x, h)
    return b.build({"twice": b.add("Add", after, after), "after": after})


def history() -> Graph:
    b = Builder("history")
    x, seen = b.input("x", np.float32, ("n", 6)), b.input("seen", np.float32, ("k", 6))
    whole = b.add("Concat", seen, x, axis=0)
    return b.build({"products": b.add("MatMul", x, b.add("Transpose", whole, perm=(1, 0))), "whole": whole})


SESSIONS = {"sum": (running_sum, "h", "after"), "history": (history, "seen", "whole")}


@pytest.mark.parametrize("n", [4, 4000], ids=["small", "reused"])
@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize("begun_there", [False, True])
def test_sessions_take_arrays_of_the_device(name: str, n: int, begun_there: bool, tmp_path: Path):
    """Steps with arrays here and there, in any order; what is done with a session between them."""
    make, state, output = SESSIONS[name]
    n = n if name == "sum" else 4
    model, on_cpu = graphc.compile(make(), target="cuda:emulate"), graphc.compile(make())
    first = randoms(n, 6, seed=9)
    session = model.session({state: output}, **{state: model.to_device(first) if begun_there else first})
    want = on_cpu.session({state: output}, **{state: first})

    def step(seed: int, there: bool) -> None:
        x = randoms(n, 6, seed=seed)
        got = session(model.to_device(x) if there else x)
        np.testing.assert_allclose(np.asarray(got), want(x), rtol=1e-5, atol=1e-4)  # sums of six products up to 9
        np.testing.assert_allclose(session.state[state], want.state[state], rtol=1e-6)

    for seed, there in enumerate([False, True, True, False, True, True]):
        step(seed, there)
    session, want = session.fork(), want.fork()
    step(7, True)
    session.save(tmp_path / "session.npz")
    session = model.load_session(tmp_path / "session.npz")
    step(8, True)
    if name == "history":
        session.truncate(5)
        want.truncate(5)
        step(9, True)
    assert isinstance(repr(session), str)
    session.reset()
    want.reset()
    step(10, True)


def test_what_does_not_fit_is_an_error():
    model = graphc.compile(doubled(), target="cuda:emulate")
    with pytest.raises(InputError, match="input 'x' is float64, the model wants"):
        model.run({"x": on_device(np.zeros((4, 6))), "y": randoms(4, 6)})
    with pytest.raises(InputError, match="input 'y' has shape"):
        model.run({"x": randoms(4, 6), "y": on_device(randoms(6, 4))})
    with pytest.raises(InputError, match="the array for output 'sum' is"):
        model.run({"x": randoms(4, 6), "y": randoms(4, 6)}, out={"sum": on_device(randoms(6, 4))})
    for stream in ("mine", -1, 2**64, 1.0, True, (0, 1)):
        with pytest.raises(InputError, match="stream must be"):
            model.run({"x": randoms(4, 6), "y": randoms(4, 6)}, stream=stream)
    with pytest.raises(InputError, match="target 'cpu' has no streams"):
        graphc.compile(doubled()).run({"x": randoms(4, 6), "y": randoms(4, 6)}, stream=1)


def test_positions_out_of_range_are_reported_once():
    b = Builder("gather")
    x, i = b.input("x", np.float32, (5,)), b.input("i", np.int64, (3,))
    model = graphc.compile(b.build([b.add("Gather", x, i)]), target="cuda:emulate")
    a, bad, good = randoms(5), np.array([0, 9, 1]), np.array([4, 0, 2])
    for give in (np.asarray, on_device):
        with pytest.raises(InputError, match="9"):
            model(give(a), give(bad))
        before = emulator().nbytes
        with pytest.raises(InputError, match="9"):
            model(give(a), give(bad))
        assert emulator().nbytes - before <= 2 * (a.nbytes + bad.nbytes)  # which `give` has made: the workspace stays
        np.testing.assert_array_equal(np.asarray(model(give(a), give(good))), a[good])


def test_threads_have_workspaces_of_their_own():
    model = graphc.compile(doubled((64, 64)), target="cuda:emulate")
    wrong = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            x, y = rng.random((2, 64, 64), np.float32)
            give = on_device if seed % 2 else np.asarray
            if not np.array_equal(np.asarray(model.run({"x": give(x), "y": give(y)})["sum"]), x + y):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_memory_goes_back():
    gc.collect()
    held = emulator().nbytes
    model = graphc.compile(doubled((128, 128)), target="cuda:emulate")
    x = randoms(128, 128)
    results = [model.run({"x": x, "y": on_device(x)}) for _ in range(3)]
    del results
    model.run({"x": x, "y": x})
    assert emulator().nbytes > held
    del model
    gc.collect()
    assert emulator().nbytes - held <= 3 * x.nbytes  # those that `on_device` made, which are the caller's


@pytest.mark.parametrize("shift", [0, 2])
def test_kernels_may_read_callers_arrays_in_whole_pieces(shift: int):
    """Those that do not begin at a multiple of 16 bytes are copied first."""
    b = Builder("product")
    x, y = (b.input(name, np.float16, (32, 32)) for name in "xy")
    model = graphc.compile(b.build({"z": b.add("MatMul", x, y)}), target="cuda:emulate")
    assert model.plan().steps[0].algorithm.startswith("tensor cores")
    x, y = randoms(32, 32, dtype="float16"), randoms(32, 32, dtype="float16", seed=1)
    out = on_device(np.zeros((32, 32), np.float16), shift)
    for feeds in ({"x": x, "y": y}, {"x": on_device(x, shift), "y": on_device(y, shift)}):
        model.run(feeds, out={"z": out})
        np.testing.assert_allclose(out.numpy(), x.astype(np.float32) @ y.astype(np.float32), rtol=2e-3, atol=2e-2)

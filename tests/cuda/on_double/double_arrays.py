"""Arrays of a GPU in and out, streams of callers."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from driver_double import State
from foreign import Dlpack, Foreign, Interface, read
from marks import of

import graphc
from graphc.backends.cuda.runtime.arrays import DeviceArray
from graphc.backends.cuda.runtime.driver import call
from graphc.backends.cuda.runtime.gpu import Gpu, GpuStream, gpu
from graphc.compiler import compile as compile_on
from graphc.dtypes import dtype_from_name
from graphc.errors import InputError
from graphc.graph import Builder, Graph

KINDS = pytest.mark.parametrize("kind", [Dlpack, Interface])


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def twice(dtype: Any = np.float32, shape: tuple = ("n", 6)) -> Graph:
    """One input; a product in two steps, the result and what is between."""
    b = Builder("twice")
    x = b.input("x", dtype, shape)
    s = b.add("Add", x, x)
    return b.build({"sum": s, "rows": b.add("CumSum", s, b.constant(0, np.int64))} if shape else {"sum": s})


def want(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"sum": x + x, "rows": np.cumsum(x + x, axis=0)}


def same(got: dict[str, Any], x: np.ndarray) -> None:
    for name, w in want(x).items():
        np.testing.assert_allclose(np.asarray(got[name]), w, rtol=1e-6)


class Own:
    """A stream of the caller's, with the gpu."""

    def __init__(self) -> None:
        self.gpu: Gpu = gpu(0)
        with self.gpu.current():
            self.stream: GpuStream = self.gpu.stream()


# --- in and out -------------------------------------------------------------------------------------------------------
@KINDS
@pytest.mark.parametrize("at", [0, 16, 4])
@pytest.mark.parametrize("theirs", [True, False])
def test_arrays_of_another_library(gpu_double: State, kind: type[Foreign], at: int, theirs: bool):
    """What they write is read when it is there; also where they write it again."""
    model, own = graphc.compile(twice(), target="cuda"), Own()
    for seed in range(3):
        x = random(5, 6, seed=seed)
        there = kind(own.gpu, x, own.stream if theirs else None, at)
        got = model.run({"x": there})
        assert all(isinstance(r, DeviceArray) for r in got.values())
        del there
        same(got, x)


@pytest.mark.parametrize("on", ["default", "given"])
@KINDS
def test_callers_write_to_their_input_after_a_run(gpu_double: State, kind: type[Foreign], on: str):
    """On the default stream, or that which they gave."""
    model, own = graphc.compile(twice(), target="cuda"), Own()
    stream = own.stream if on == "given" else own.gpu.stream_of(1)
    x = random(5, 6)
    there = kind(own.gpu, x, stream)
    for seed in range(1, 4):
        got = model.run({"x": there}, stream=own.stream.handle if on == "given" else None)
        there.write(random(5, 6, seed=seed))
        stream.wait()
        same(got, x)
        x = random(5, 6, seed=seed)


def test_inputs_of_both_kinds(gpu_double: State):
    """One of the host, which the caller writes to again while the GPU may still work."""
    b = Builder("sum")
    x, y = b.input("x", np.float32, (5, 6)), b.input("y", np.float32, (5, 6))
    model, own = graphc.compile(b.build({"sum": b.add("Sub", x, y)}), target="cuda"), Own()
    host, results = np.empty((5, 6), np.float32), []
    for seed in range(12):
        host[...] = random(5, 6, seed=seed)
        there = Dlpack(own.gpu, random(5, 6, seed=100 + seed), own.stream if seed % 2 else None)
        results.append(model(host, there))
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(result.numpy(), random(5, 6, seed=seed) - random(5, 6, seed=100 + seed))


def test_results_are_inputs_of_other_models(gpu_double: State):
    first, second = graphc.compile(twice(), target="cuda"), graphc.compile(twice(), target="cuda")
    own = Own()
    x = random(5, 6)
    y: Any = Dlpack(own.gpu, x, own.stream)
    for model in (first, second, first, first):
        y, x = model.run({"x": y})["sum"], x + x
    np.testing.assert_array_equal(y.numpy(), x)
    same(first.run({"x": x}), x)


@KINDS
def test_another_library_takes_results(gpu_double: State, kind: type[Foreign]):
    """On its stream; the result goes before that stream has read it."""
    model, own = graphc.compile(twice(), target="cuda"), Own()
    found = []
    for seed in range(3):
        got = model.run({"x": kind(own.gpu, random(5, 6, seed=seed))})
        found.append({name: read(own.gpu, r, own.stream) for name, r in got.items()})
        del got
    own.stream.wait()
    for seed in range(3):
        same(found[seed], random(5, 6, seed=seed))


def test_who_reads_through_the_interface_on_the_default_stream(gpu_double: State):
    model, own = graphc.compile(twice(), target="cuda"), Own()
    default = own.gpu.stream_of(1)
    got = model.run({"x": model.to_device(random(5, 6))})

    class Only:
        def __init__(self, r: Any) -> None:
            self.__cuda_array_interface__ = r.__cuda_array_interface__

    found = {name: read(own.gpu, Only(r), default) for name, r in got.items()}
    del got
    default.wait()
    same(found, random(5, 6))


def test_results_outlive_the_model(gpu_double: State):
    model, own = graphc.compile(twice(), target="cuda"), Own()
    x = random(5, 6)
    got = model.run({"x": Dlpack(own.gpu, x)})
    del model
    same(got, x)
    found = {name: read(own.gpu, r, own.stream) for name, r in got.items()}
    del got
    own.stream.wait()
    same(found, x)


@KINDS
@pytest.mark.parametrize("at", [0, 4])
def test_results_go_where_the_caller_says(gpu_double: State, kind: type[Foreign], at: int):
    model, own = graphc.compile(twice(), target="cuda"), Own()
    there = kind(own.gpu, np.zeros((5, 6), np.float32), own.stream, at)
    for seed in range(3):
        x = random(5, 6, seed=seed)
        got = model.run({"x": x if seed else Dlpack(own.gpu, x)}, out={"rows": there})
        assert got["rows"] is there
        np.testing.assert_allclose(there.numpy(), want(x)["rows"], rtol=1e-6)
        same({**got, "rows": there.numpy()}, x)


def test_an_array_that_may_not_be_written(late: State):
    model, own = graphc.compile(twice(), target="cuda"), Own()
    for kind in (Dlpack, Interface):
        there = kind(own.gpu, random(5, 6), readonly=True)
        same(model.run({"x": there}), random(5, 6))
        with pytest.raises(InputError, match="output 'sum' may not be written"):
            model.run({"x": random(5, 6)}, out={"sum": there})
        np.testing.assert_array_equal(there.numpy(), random(5, 6))


def test_to_device(gpu_double: State):
    model = graphc.compile(twice(), target="cuda")
    x = random(5, 6)
    there = model.to_device(x)
    x[...] = 0
    same(model.run({"x": there}), random(5, 6))


@pytest.mark.parametrize("shape", [(), (0, 6), (1, 1), (2, 3, 4)])
def test_shapes(gpu_double: State, shape: tuple[int, ...]):
    b = Builder("shapes")
    x = b.input("x", np.float32, shape)
    model, own = graphc.compile(b.build([b.add("Neg", b.add("Exp", x))]), target="cuda"), Own()
    a = random(*shape)
    for given in (a, Dlpack(own.gpu, a), model.to_device(a)):
        y = model(given)
        assert y.shape == shape
        np.testing.assert_allclose(np.asarray(y), -np.exp(a), rtol=1e-6)
        if isinstance(y, DeviceArray):
            copy = read(own.gpu, y, own.stream)
            own.stream.wait()
            np.testing.assert_allclose(copy, -np.exp(a), rtol=1e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64", "int8", "uint16", "int64", "bool"])
def test_dtypes(late: State, name: str):
    dtype = dtype_from_name(name)
    b = Builder("dtypes")
    x = b.input("x", dtype, (7,))
    model, own = graphc.compile(b.build([b.add("Gather", x, b.constant([6, 0, 3]))]), target="cuda"), Own()
    a = np.arange(7).astype(dtype)
    for given in (Dlpack(own.gpu, a), model.to_device(a)):
        y = model(given)
        np.testing.assert_array_equal(y.numpy(), a[[6, 0, 3]])
        copy = read(own.gpu, y, own.stream)
        own.stream.wait()
        np.testing.assert_array_equal(copy, a[[6, 0, 3]])


# --- streams ----------------------------------------------------------------------------------------------------------
class Cuda:
    """As cuda.core and CuPy have it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


class Torch:
    def __init__(self, handle: int) -> None:
        self.cuda_stream = handle


@pytest.mark.parametrize("wrapped", [int, Cuda, Torch])
@pytest.mark.parametrize("default", [None, 0, 1, 2])
def test_work_goes_to_the_callers_stream(gpu_double: State, wrapped: type, default: int | None):
    """What he gives it then comes after: no other wait is needed."""
    model, own = graphc.compile(twice(), target="cuda"), Own()
    stream = own.stream if default is None else own.gpu.stream_of(default)
    found = []
    for seed in range(3):
        x = random(5, 6, seed=seed)
        there, to = Dlpack(own.gpu, x, stream), Dlpack(own.gpu, 0 * x, stream)
        got = model.run({"x": there}, out={"rows": to}, stream=wrapped(stream.handle))
        with own.gpu.current():
            copy = own.gpu.host_array(to.nbytes)
            own.gpu.copy(copy.ctypes.data, to.address, to.nbytes, stream)
        found.append(copy)
        same({"sum": got["sum"], "rows": want(x)["rows"]}, x)
    stream.wait()
    for seed in range(3):
        np.testing.assert_allclose(
            found[seed].view(np.float32).reshape(5, 6), want(random(5, 6, seed=seed))["rows"], rtol=1e-6
        )


def test_runs_on_changing_streams(gpu_double: State):
    """One workspace: each run comes after the one before."""
    model, owns = graphc.compile(twice(), target="cuda"), [Own(), Own()]
    results = []
    for seed in range(6):
        x, own = random(5, 6, seed=seed), owns[seed % 2]
        stream = None if seed == 3 else own.stream.handle
        results.append(model.run({"x": Dlpack(own.gpu, x, own.stream)}, stream=stream))
    for seed in reversed(range(6)):
        same(results[seed], random(5, 6, seed=seed))


def test_a_callers_stream_may_go(gpu_double: State):
    """Before results of work on it, and before the model."""
    model, own = graphc.compile(twice(), target="cuda"), Own()
    x = random(5, 6)
    got = model.run({"x": Dlpack(own.gpu, x)}, stream=own.stream.handle)
    del own.stream
    same(model.run({"x": x}), x)
    same(got, x)
    again = model.run({"x": got["sum"]})
    del got, model
    same(again, x + x)


def test_a_readers_stream_may_go(gpu_double: State):
    model, own = graphc.compile(twice(), target="cuda"), Own()
    x = random(5, 6)
    got = model.run({"x": Dlpack(own.gpu, x)})
    copy = read(own.gpu, got["sum"], own.stream)
    own.stream.wait()
    del own.stream
    del got
    np.testing.assert_array_equal(copy, x + x)


def test_threads_with_streams_of_their_own(gpu_double: State):
    model = graphc.compile(twice(), target="cuda")
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            own = Own()
            for i in range(5):
                x = random(5, 6, seed=10 * number + i)
                given = Dlpack(own.gpu, x, own.stream) if i % 2 else model.to_device(x)
                same(model.run({"x": given}, stream=own.stream.handle if number % 2 else None), x)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed


def test_a_callers_context_stays_current(late: State):
    """Also where results go while another GPU's is."""
    model, own = graphc.compile(twice(), target="cuda"), Own()
    call("cuCtxPushCurrent", own.gpu._context)
    got = model.run({"x": Dlpack(own.gpu, random(5, 6))})
    same(got, random(5, 6))
    del got, model
    assert int(call("cuCtxPopCurrent")) == int(own.gpu._context)


# --- other parts ------------------------------------------------------------------------------------------------------
def test_nodes_of_the_host(gpu_double: State):
    b = Builder("host")
    x = b.input("x", np.float32, ("n", 3, 3))
    graph = b.build({"y": b.add("Neg", b.add("Det", b.add("Exp", x))), "det": b.add("Det", x)})
    model, own = graphc.compile(graph, target="cuda", host=True), Own()
    for seed, n in enumerate((4, 2, 4)):
        a = random(n, 3, 3, seed=seed)
        for given in (Dlpack(own.gpu, a, own.stream), a):
            got = model.run({"x": given}, stream=own.stream.handle)
            np.testing.assert_allclose(np.asarray(got["y"]), -np.linalg.det(np.exp(a)), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(np.asarray(got["det"]), np.linalg.det(a), rtol=1e-4, atol=1e-5)


def test_positions_out_of_range(gpu_double: State):
    b = Builder("gather")
    x, i = b.input("x", np.float32, (5,)), b.input("i", np.int64, (3,))
    model, own = graphc.compile(b.build([b.add("Gather", x, i)]), target="cuda"), Own()
    a, bad, good = random(5), np.array([0, 9, 1]), np.array([4, 0, 2])
    for _ in range(2):
        with pytest.raises(InputError, match="9"):
            model(Dlpack(own.gpu, a), Dlpack(own.gpu, bad))
        np.testing.assert_array_equal(np.asarray(model(Dlpack(own.gpu, a), Dlpack(own.gpu, good))), a[good])


def test_memory_of_results_goes_back(gpu_double: State):
    model, own = graphc.compile(twice(), target="cuda"), Own()
    x = Dlpack(own.gpu, random(5, 6))
    model.run({"x": x})
    held = gpu_double.left()
    for _ in range(30):
        got = model.run({"x": x})
    got["sum"].numpy()
    del got
    model.run({"x": x})["sum"].numpy()
    now = gpu_double.left()
    assert now["pool"] <= 2 * held["pool"] and now["device"] == held["device"]
    assert now["Event"] <= held.get("Event", 0) + 20 and now["pinned"] <= held["pinned"] + 16 * 1024


def test_a_model_that_ends_while_it_works(gpu_double: State):
    own = Own()
    x = random(5, 6)
    for seed in range(3):
        model = graphc.compile(twice(), target="cuda")
        got = model.run({"x": Dlpack(own.gpu, x, own.stream)}, stream=own.stream.handle if seed else None)
        del model
        same(got, x)
        del got


# --- errors -----------------------------------------------------------------------------------------------------------
@KINDS
def test_what_does_not_fit(late: State, kind: type[Foreign]):
    model, own = graphc.compile(twice(), target="cuda"), Own()
    with pytest.raises(InputError, match="input 'x' is float64, the model wants"):
        model.run({"x": kind(own.gpu, np.zeros((5, 6)))})
    with pytest.raises(InputError, match="input 'x'.*C-contiguous") as error:
        model.run({"x": kind(own.gpu, random(6, 6), strides=(1, 6))})
    assert "contiguous()" in str(error.value)
    with pytest.raises(InputError, match="input 'x'"):
        model.run({"x": kind(own.gpu, random(5, 7))})
    there = kind(own.gpu, random(5, 6))
    with pytest.raises(InputError, match="share memory"):
        model.run({"x": there}, out={"sum": there})
    with pytest.raises(InputError, match="output 'sum'"):
        model.run({"x": there}, out={"sum": kind(own.gpu, random(4, 6))})
    with pytest.raises(InputError, match="stream must be"):
        model.run({"x": there}, stream="mine")


@of({"devices": 2})
def test_an_array_of_another_gpu(made: State):
    models = [compile_on(twice(), target="cuda", device=n) for n in (0, 1)]
    for kind in (Dlpack, Interface):
        there = kind(gpu(1), random(5, 6))
        with pytest.raises(InputError, match="GPU 1, the model on GPU 0|lies on"):
            models[0].run({"x": there})
        got = models[1].run({"x": there})
        same(got, random(5, 6))
        with pytest.raises(InputError, match="lies on double 1"):
            models[0].run({"x": got["sum"]})


def test_arrays_of_no_gpu(gpu_double: State):
    """Tensors of another library in the host's memory."""
    model, x = graphc.compile(twice(), target="cuda"), random(5, 6)

    class Host:
        def __dlpack_device__(self) -> tuple[int, int]:
            return x.__dlpack_device__()

        def __dlpack__(self, **asked: Any) -> Any:
            return x.__dlpack__(**asked)

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            return x

    got = model.run({"x": Host()})
    assert all(isinstance(r, np.ndarray) for r in got.values())
    same(got, x)

"""A GPU as a device: memory, streams, launches, graphs, and what the driver answers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from affine import Affine, OnGpu
from driver_double import State, cubin_of
from driver_double.abi import KernelNodeParams, MemPoolProps
from driver_double.device_calls import shared_limit
from marks import of

from graphc.backends.cuda.codegen import cubin as cubins
from graphc.backends.cuda.runtime import gpu as gpu_module
from graphc.backends.cuda.runtime.device import DeviceMemory
from graphc.backends.cuda.runtime.driver import call, driver
from graphc.backends.cuda.runtime.gpu import gpu
from graphc.errors import DeviceError, OutOfMemoryError, UnsupportedError

SOME = np.arange(100, dtype=np.int64)


# --- what is there ----------------------------------------------------------------------------------------------------
def test_what_a_gpu_says_of_itself(late: State):
    g = gpu(0)
    assert (g.name, g.arch[:2], g.multiprocessors, g.ordinal) == ("double 0", (9, 0), 4, 0) and gpu(0) is g


@of({"devices": 0})
def test_no_gpu(made: State):
    with pytest.raises(UnsupportedError, match="finds no GPU"):
        gpu(0)
    made.expect("NO_DEVICE")


@of({"devices": 2})
def test_too_few_gpus(made: State):
    assert gpu(1).name == "double 1"
    with pytest.raises(UnsupportedError, match="no GPU 2: the driver finds 2"):
        gpu(2)


@of({"version": 11_080}, {"version": 11_020})
def test_a_driver_that_is_too_old(made: State):
    said = f"11.{made.version % 1000 // 10}"
    with pytest.raises(UnsupportedError, match=f"for CUDA {said}, 12.0 is needed"):
        gpu(0)


def test_a_driver_that_does_not_start(late: State):
    late.refuse["cuInit"] = ["SYSTEM_DRIVER_MISMATCH"]
    with pytest.raises(DeviceError, match="cuInit: .*SYSTEM_DRIVER_MISMATCH"):
        gpu(0)
    late.expect("SYSTEM_DRIVER_MISMATCH")


# --- memory -----------------------------------------------------------------------------------------------------------
def test_copies_there_and_back(gpu_double: State):
    g = gpu(0)
    with g.current():
        stream, memory = g.stream(), DeviceMemory(g, 800)
        first, second = g.host_array(800).view(np.int64), g.host_array(800).view(np.int64)
        first[:] = SOME
        g.copy(memory.address, first.ctypes.data, 800, stream)
        g.copy(second.ctypes.data, memory.address, 800, stream)
        g.copy(0, 0, 0, stream)  # of nothing
        stream.wait()
    np.testing.assert_array_equal(second, SOME)


def test_nothing_happens_before_it_is_waited_for(late: State):
    g = gpu(0)
    with g.current():
        stream, memory = g.stream(), DeviceMemory(g, 800)
        locked, pageable = g.host_array(800).view(np.int64), SOME.copy()
        locked[:] = SOME
        g.copy(memory.address, pageable.ctypes.data, 400, stream)
        g.copy(memory.address + 400, locked.ctypes.data + 400, 400, stream)
        locked[:], pageable[:] = -1, -1
        found = np.empty(100, np.int64)
        g.copy(found.ctypes.data, memory.address, 800, stream)
    np.testing.assert_array_equal(found, [*range(50), *[-1] * 50])


def test_results_are_made_and_freed_in_a_stream(gpu_double: State):
    g = gpu(0)
    with g.current():
        stream, other = g.stream(), g.stream()
        at = g.allocate_result(800, stream)
        g.copy(at, SOME.ctypes.data, 800, stream)
        other.follow(stream)
        found = g.host_array(800).view(np.int64)
        g.copy(found.ctypes.data, at, 800, other)
        stream.follow(other)
        assert gpu_double.left()["pool"] == 800
        empty = g.allocate_result(0, stream)
    g.free_result(at, stream)
    g.free_result(empty, stream)
    other.wait()
    np.testing.assert_array_equal(found, SOME)
    stream.wait()
    assert gpu_double.left()["pool"] == 0


def test_memory_goes_back_with_its_last_reference(late: State):
    g = gpu(0)
    with g.current():
        stream, memory, locked = g.stream(), DeviceMemory(g, 100), g.host_array(100)
        a = OnGpu(g, stream, SOME)
        runs = g.graph([a.launch(3)])
        stream.wait()
        part = locked[10:20].view(np.int8)
        del locked
        assert late.left()["pinned"] == 100
        a.free()
    assert late.left()["device"] == 100
    del memory, part, stream, runs, a
    assert not any(late.left().values())


@of({"memory": 1000})
def test_full_memory(made: State):
    g = gpu(0)
    with g.current():
        first = DeviceMemory(g, 600)
        with pytest.raises(OutOfMemoryError, match="the GPU's memory is full") as error:
            DeviceMemory(g, 600)
        assert isinstance(error.value, MemoryError) and "smaller inputs" in str(error.value)
        with pytest.raises(OutOfMemoryError, match="full"):
            g.allocate_result(600, g.stream())
        made.expect("OUT_OF_MEMORY")
        del first, error
        DeviceMemory(g, 600)


# --- streams ----------------------------------------------------------------------------------------------------------
def test_a_stream_follows_another(gpu_double: State):
    g = gpu(0)
    with g.current():
        first, second = g.stream(), g.stream()
        a = OnGpu(g, first, SOME)
        launches = [a.launch(n) for n in (2, 3, 5)]
        first.follow(first)
        g.launch(launches[0], first)
        second.follow(first)
        g.launch(launches[1], second)
        first.follow(second)
        g.launch(launches[2], first)
        np.testing.assert_array_equal(a.values(), ((SOME * 2 + 1) * 3 + 1) * 5 + 1)
        a.free()
        assert "Event" not in gpu_double.left()


@pytest.mark.parametrize("handle", [0, 1, 2])
def test_streams_of_callers(gpu_double: State, handle: int):
    """0 and 1: the legacy default stream; 2: the thread's."""
    g = gpu(0)
    with g.current():
        mine, theirs = g.stream(), g.stream_of(handle)
        a = OnGpu(g, mine, SOME)
        launch = a.launch(7)
        theirs.follow(mine)
        g.launch(launch, theirs)
        np.testing.assert_array_equal(a.values(theirs), SOME * 7 + 1)
        mine.follow(theirs)
        a.free()
        del theirs
    assert gpu_double.calls["cuStreamDestroy"] == 0


def test_a_wait_that_is_missing_is_seen(late: State):
    """Of the double: streams do not wait for each other by themselves."""
    g = gpu(0)
    with g.current():
        first, second = g.stream(), g.stream()
        a = OnGpu(g, first, SOME)
        launch = a.launch(7)
        first.wait()
        g.launch(launch, second)
        np.testing.assert_array_equal(a.values(first), SOME)
        np.testing.assert_array_equal(a.values(second), SOME * 7 + 1)
        a.free()


# --- kernels ----------------------------------------------------------------------------------------------------------
def test_a_launch_and_none(gpu_double: State):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        g.launch(a.launch(3), a.stream)
        g.launch(a.launch(3, count=0), a.stream)  # a grid of 0 is no launch
        np.testing.assert_array_equal(a.values(), SOME * 3 + 1)
        a.free()
    assert gpu_double.calls["cuLaunchKernel"] == 1


@pytest.mark.parametrize("shared", [0, 48 << 10, 100 << 10, 163 << 10])
@of({"arch": (9, 0)}, {"arch": (8, 0)})
def test_shared_memory(made: State, shared: int):
    """More than 48 KiB have to be asked for."""
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME, Affine(32, shared))
        launch = a.launch(3)
        g.graph([launch]).run(a.stream)
        g.launch(launch, a.stream)
        np.testing.assert_array_equal(a.values(), (SOME * 3 + 1) * 3 + 1)
        assert g.blocks_at_once(a.function) == min(32, (shared_limit(made.arch) + 1024) // (shared + 1024))
        a.free()


def test_a_kernel_that_cant_be_loaded(late: State):
    g = gpu(0)
    late.arch = (8, 6)
    gpu.cache_clear()
    with pytest.raises(DeviceError, match="double 0 can't load the kernel affine_of_tests_32.*INVALID_VALUE"):
        gpu(0).function(Affine(32, 163 << 10), cache=True)
    late.arch = (9, 0)
    late.expect("INVALID_VALUE")
    late.refuse["cuModuleLoadData"] = ["OUT_OF_MEMORY", "NO_BINARY_FOR_GPU"]
    with pytest.raises(OutOfMemoryError, match="full"):
        g.function(Affine(96), cache=True)
    with pytest.raises(DeviceError, match="NO_BINARY_FOR_GPU"):
        g.function(Affine(96), cache=True)
    late.expect("OUT_OF_MEMORY", "NO_BINARY_FOR_GPU")
    assert g.function(Affine(96), cache=True) is g.function(Affine(96), cache=True)
    assert late.calls["cuModuleLoadData"] == 4


def test_code_that_ptxas_made(late: State, monkeypatch: pytest.MonkeyPatch):
    """The driver finds the entry by the name that a compiled cubin gives, in its bytes."""
    from driver_double.kernel_calls import CODES, Code

    from graphc.backends.cuda.codegen.build import emulated

    made = cubins.cubin_of(Affine(), (9, 0))
    assert made.entry.encode() in made.code and made.threads == 32
    CODES[made.code] = Code(Affine(), (9, 0), made.entry, emulated(Affine(), (9, 0)))
    monkeypatch.setattr(gpu_module, "cubin_of", lambda *_: made)
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        g.launch(a.launch(3), a.stream)
        np.testing.assert_array_equal(a.values(), SOME * 3 + 1)
        a.free()
    assert cubin_of(Affine(), (9, 0)).code != made.code


# --- blocks that wait for each other ----------------------------------------------------------------------------------
TOGETHER = Affine(32, 100 << 10, together=True)  # two blocks to a multiprocessor, of which there are four


def test_blocks_that_run_at_once(gpu_double: State):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME, TOGETHER)
        once, none = a.launch(3), a.launch(5, count=0)
        g.launch(once, a.stream)
        graph = g.graph([none, once, OnGpu.launch(a, 2)])
        graph.run(a.stream)
        graph.change([once, none, a.launch(2, count=40)])
        graph.run(a.stream)
        want = (((SOME * 3 + 1) * 3 + 1) * 2 + 1) * 3 + 1
        want[:40] = want[:40] * 2 + 1
        np.testing.assert_array_equal(a.values(), want)
        a.free()
    calls = gpu_double.calls
    assert calls["cuLaunchKernel"] == 0 and calls["cuLaunchCooperativeKernel"] == 1
    assert calls["cuGraphKernelNodeSetAttribute"] == 3


def test_more_blocks_than_run_at_once(late: State):
    """An error before they wait for ever, or the driver refuses them."""
    g = gpu(0)
    with g.current():
        many = np.arange(9 * 32, dtype=np.int64)
        a = OnGpu(g, g.stream(), many, TOGETHER)
        large, fits = a.launch(3), a.launch(3, count=8 * 32)
        said = "double 0 runs 8 blocks of the kernel affine_of_tests_32.* at once, and 9 wait for each other"
        with pytest.raises(DeviceError, match=said):
            g.launch(large, a.stream)
        with pytest.raises(DeviceError, match=said):
            g.graph([large])
        graph = g.graph([fits])
        with pytest.raises(DeviceError, match=said):
            graph.change([large])
        np.testing.assert_array_equal(a.values(), many)
        g.launch(fits, a.stream)
        graph.run(a.stream)
        many[: 8 * 32] = (many[: 8 * 32] * 3 + 1) * 3 + 1
        np.testing.assert_array_equal(a.values(), many)
        a.free()
        del graph


def test_the_driver_refuses_what_does_not_fit(late: State, monkeypatch: pytest.MonkeyPatch):
    """The double, as the driver does."""
    monkeypatch.setattr(gpu_module.Gpu, "require_together", lambda *_: None)
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), np.arange(9 * 32, dtype=np.int64), TOGETHER)
        large = a.launch(3)
        with pytest.raises(DeviceError, match="COOPERATIVE_LAUNCH_TOO_LARGE"):
            g.launch(large, a.stream)
        with pytest.raises(DeviceError, match="COOPERATIVE_LAUNCH_TOO_LARGE"):
            g.graph([large])
        late.expect("COOPERATIVE_LAUNCH_TOO_LARGE")
        a.stream.wait()
        a.free()


def test_times(gpu_double: State):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        assert 0 < g.seconds([a.launch(1)], a.stream, 5) < 1 and g.seconds([a.launch(1, count=0)], a.stream, 5) == 0
        a.stream.wait()
        np.testing.assert_array_equal(a.values(), SOME + 5)
        a.free()
    assert "Event" not in gpu_double.left()


def test_times_where_the_kernel_fails(late: State):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        launch = a.launch(1)
        late.refuse["cuLaunchKernel"] = ["LAUNCH_OUT_OF_RESOURCES"]
        with pytest.raises(DeviceError, match="LAUNCH_OUT_OF_RESOURCES"):
            g.seconds([launch], a.stream, 5)
        a.stream.wait()
        a.free()
    late.expect("LAUNCH_OUT_OF_RESOURCES")
    assert "Event" not in late.left()


# --- graphs -----------------------------------------------------------------------------------------------------------
def test_a_graph_runs_in_order(gpu_double: State):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        graph = g.graph([a.launch(n) for n in (2, 3, 5)])
        graph.run(a.stream)
        np.testing.assert_array_equal(a.values(), once := ((SOME * 2 + 1) * 3 + 1) * 5 + 1)
        graph.run(a.stream)
        np.testing.assert_array_equal(a.values(), ((once * 2 + 1) * 3 + 1) * 5 + 1)
        g.graph([]).run(a.stream)
        a.free()


def test_a_graph_changes(gpu_double: State):
    """Grids, arguments, kernels; steps that have nothing to do, from the start or later. What was given before stays."""
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        by = {n: a.launch(n) for n in (2, 3, 5, 7)}
        none = a.launch(9, count=0)
        few, other = a.launch(11, count=40), g.function(Affine(32, 60 << 10), cache=True)
        large = by[7]._replace(function=other)
        graph, want = g.graph([by[2], none, by[3]]), SOME.copy()
        for launches in (
            [by[2], none, by[3]],
            [by[2], by[5], by[3]],
            [none, by[5], none],
            [none, none, none],
            [few, none, large],
            [few, few, large],
            [by[3], none._replace(function=other), by[2]],
            [by[2], large, by[3]],
        ):
            graph.change(launches)
            graph.run(a.stream)
            for launch in launches:
                if launch.grid:
                    n = {few.argument: 40}.get(launch.argument, 100)
                    factor = next((k for k, v in by.items() if v.argument == launch.argument), 11)
                    want[:n] = want[:n] * factor + 1
        np.testing.assert_array_equal(a.values(), want)
        a.free()


def test_a_graph_that_is_at_work_may_go(gpu_double: State):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        graph = g.graph([a.launch(4)])
        graph.run(a.stream)
        del graph
        np.testing.assert_array_equal(a.values(), SOME * 4 + 1)
        a.free()


@pytest.mark.parametrize("name", ["cuGraphCreate", "cuGraphAddKernelNode", "cuGraphInstantiateWithFlags"])
def test_a_graph_that_cant_be_made_leaves_nothing(late: State, name: str):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        launches = [a.launch(2), a.launch(3)]
        late.refuse[name] = ["OUT_OF_MEMORY"]
        with pytest.raises(OutOfMemoryError) as error:
            g.graph(launches)
        del error
        late.expect("OUT_OF_MEMORY")
        assert not {"Graph", "GraphExec", "Node"} & {k for k, n in late.left().items() if n}
        a.stream.wait()
        a.free()


# --- failures ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", ["ILLEGAL_ADDRESS", "LAUNCH_FAILED", "MISALIGNED_ADDRESS"])
def test_a_kernel_that_fails(late: State, status: str):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        late.launches_fail = [status]
        g.launch(a.launch(3), a.stream)
        with pytest.raises(DeviceError, match=f"cuStreamSynchronize: .*{status}") as error:
            a.stream.wait()
        assert "can't use the GPU any more" in str(error.value) and "GRAPHC_CHECK=memory" in str(error.value)
        with pytest.raises(DeviceError, match=status) as again:
            g.allocate(8)
        assert "can't use the GPU any more" in str(again.value)
    late.expect(status)


def test_contexts_stay_as_callers_have_them(late: State):
    """Where the process uses the GPU, too; also after an error."""
    g = gpu(0)
    call("cuCtxPushCurrent", g._context)
    g.free(g.allocate(100))
    with pytest.raises(DeviceError), g.current():
        g.free(12345)
    late.expect("INVALID_VALUE")
    assert int(call("cuCtxGetCurrent")) == int(g._context) and int(call("cuCtxPopCurrent")) == int(g._context)
    assert int(call("cuCtxGetCurrent")) == 0


@of({"devices": 2})
def test_gpus_beside_each_other(made: State):
    for n in (0, 1, 0):
        g = gpu(n)
        with g.current():
            a = OnGpu(g, g.stream(), SOME)
            g.graph([a.launch(3)]).run(a.stream)
            g.free_result(g.allocate_result(8, a.stream), a.stream)
            np.testing.assert_array_equal(a.values(), SOME * 3 + 1)
            a.free()


def test_threads(gpu_double: State):
    g, failed = gpu(0), []

    def work(number: int) -> None:
        try:
            with g.current():
                a = OnGpu(g, g.stream(), SOME)
                graph = g.graph([a.launch(number)])
                for _ in range(5):
                    graph.run(a.stream)
                want = SOME
                for _ in range(5):
                    want = want * number + 1
                np.testing.assert_array_equal(a.values(), want)
                a.free()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2, 8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed


# --- the double itself ------------------------------------------------------------------------------------------------
def broken(d: State, text: str) -> None:
    assert len(d.broken) == 1 and text in str(d.broken[0]), d.broken
    d.broken.clear()


def test_what_the_double_does_not_let_pass(late: State):
    g = gpu(0)
    with pytest.raises(DeviceError, match="INVALID_CONTEXT"):
        g.allocate(8)
    late.expect("INVALID_CONTEXT")
    with g.current():
        a, stream = OnGpu(g, g.stream(), SOME), g.stream()
        launch = a.launch(3)
        function = launch.function
        for wrong in (1 << 31, (1 << 32) - 1):
            with pytest.raises(DeviceError, match="INVALID_VALUE"):
                g.launch(launch._replace(grid=wrong), stream)
        less = function._replace(cubin=function.cubin.__class__(**{**vars(function.cubin), "threads": 16}))
        with pytest.raises(DeviceError, match="with .16, 1, 1. threads, not 32"):
            g.launch(launch._replace(function=less), stream)
        broken(late, "threads")
        for to, source, nbytes in ((a.at, a.at + 8, 800), (a.at - 8, SOME.ctypes.data, 16)):
            with pytest.raises(DeviceError, match="INVALID_VALUE"):
                g.copy(to, source, nbytes, stream)
        with pytest.raises(DeviceError, match="has no cuStreamBeginCapture"):
            call("cuStreamBeginCapture", 0, driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
        broken(late, "has no cuStreamBeginCapture")
        gone = g.allocate(8)
        g.free(gone)
        with pytest.raises(DeviceError, match="INVALID_VALUE"):
            g.free(gone)
        late.expect("INVALID_VALUE")
        source = g.host_array(8)
        at = source.ctypes.data
        g.copy(a.at, at, 8, a.stream)
        del source
        broken(late, "is freed, and a copy of 8 bytes")
        with pytest.raises(DeviceError, match="is freed, and"):
            g.free(a.at)
        broken(late, "is freed, and")
        a.stream.wait()
        call("cuMemFreeHost", at)
        a.free()


def test_a_launch_with_memory_that_is_gone(late: State):
    g = gpu(0)
    with g.current():
        a = OnGpu(g, g.stream(), SOME)
        launch = a.launch(3)
        a.stream.wait()
        g.free(a.at)
        g.launch(launch, a.stream)
        with pytest.raises(DeviceError, match="UNKNOWN"):
            a.stream.wait()
    broken(late, "as word 2")
    late.expect("UNKNOWN")


def test_structures_are_those_of_cuda():
    offsets = {n: getattr(KernelNodeParams, n).offset for n, _ in KernelNodeParams._fields_}
    assert offsets == {
        "func": 0, "grid": 8, "block": 20, "shared": 32, "kernelParams": 40, "extra": 48, "kern": 56, "ctx": 64
    }  # fmt: skip
    assert MemPoolProps.location.offset == 8 and MemPoolProps.maxSize.offset == 24 and MemPoolProps.usage.offset == 32

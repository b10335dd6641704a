"""A GPU as a device, through CUDA's driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from graphc.backends.cuda.codegen.arch import WITH_GROUPS, Arch
from graphc.backends.cuda.codegen.cubin import Cubin, cubin_of
from graphc.backends.cuda.runtime.arrays import LEGACY
from graphc.backends.cuda.runtime.device import Launch, Stream
from graphc.backends.cuda.runtime.driver import call, driver, require
from graphc.errors import DeviceError, UnsupportedError
from graphc.lower.kernel import Kernel

KEPT = 256 << 20  # bytes of results that have been freed and stay at hand for others
POINTER = np.dtype(np.uintp).itemsize


class Function(NamedTuple):
    """handle: the driver's. module: what holds its code."""

    handle: Any
    cubin: Cubin
    module: Any
    kernel: Kernel


class GpuStream:
    """See `Stream`. own: it goes with this object. gone: a garbage collection ends the objects of a cycle in any order, and memory
    of results may outlive the stream."""

    gone = False

    def __init__(self, gpu: Gpu, handle: int, own: bool) -> None:
        self.gpu, self.handle, self._own = gpu, handle, own

    def wait(self) -> None:
        with self.gpu.current():
            call("cuStreamSynchronize", self.handle)

    def follow(self, other: Stream) -> None:
        if other.handle == self.handle:
            return
        with _event(timed=False) as event:
            call("cuEventRecord", event, other.handle)
            call("cuStreamWaitEvent", self.handle, event, 0)

    def mark(self) -> GpuMark:
        return GpuMark(self)

    def __del__(self) -> None:
        if self._own:
            with suppress(Exception), self.gpu.current():  # the process ends, and the driver has gone already
                self.gone = True
                call("cuStreamDestroy", self.handle)


class GpuMark:
    """See `Mark`."""

    def __init__(self, stream: GpuStream) -> None:
        self._stream, self._event = stream, _new_event(timed=False)
        call("cuEventRecord", self._event, stream.handle)

    def reached(self) -> bool:
        bindings = driver()
        (status,) = bindings.cuEventQuery(self._event)
        if status == bindings.CUresult.CUDA_ERROR_NOT_READY:
            return False
        require(bindings, "cuEventQuery", status)
        return True

    def wait(self) -> None:
        call("cuEventSynchronize", self._event)

    def __del__(self) -> None:
        if hasattr(self, "_event"):
            with suppress(Exception), self._stream.gpu.current():
                call("cuEventDestroy", self._event)


class GpuGraph:
    """See `LaunchGraph`: a CUDA graph whose nodes follow one another."""

    def __init__(self, gpu: Gpu, launches: Sequence[Launch]) -> None:
        self._gpu, self._launches = gpu, tuple(launches)
        self._graph = call("cuGraphCreate", 0)
        self._nodes: list[Any] = []
        for launch in launches:
            before = self._nodes[-1:]
            gpu.require_together(launch)
            with _parameters(launch._replace(grid=max(launch.grid, 1))) as node:
                self._nodes.append(call("cuGraphAddKernelNode", self._graph, before, len(before), node))
            if launch.function.cubin.together:
                call("cuGraphKernelNodeSetAttribute", self._nodes[-1], *_cooperative())
        self._runnable = call("cuGraphInstantiate", self._graph, 0)
        for node, launch in zip(self._nodes, launches):
            if launch.grid == 0:
                call("cuGraphNodeSetEnabled", self._runnable, node, 0)

    def change(self, launches: Sequence[Launch]) -> None:
        for node, old, new in zip(self._nodes, self._launches, launches):
            if new == old:
                continue
            if (old.grid == 0) != (new.grid == 0):
                call("cuGraphNodeSetEnabled", self._runnable, node, int(new.grid > 0))
            if new.grid:
                self._gpu.require_together(new)
                with _parameters(new) as changed:
                    call("cuGraphExecKernelNodeSetParams", self._runnable, node, changed)
        self._launches = tuple(launches)

    def run(self, stream: Stream) -> None:
        call("cuGraphLaunch", self._runnable, stream.handle)

    def __del__(self) -> None:
        with suppress(Exception), self._gpu.current():
            if hasattr(self, "_runnable"):
                call("cuGraphExecDestroy", self._runnable)
            call("cuGraphDestroy", self._graph)


class Gpu:
    """See `Device`. arch: what kernels are compiled for."""

    def __init__(self, ordinal: int) -> None:
        """Raises UnsupportedError where there is no such GPU, or none that kernels can be compiled for."""
        count = call("cuDeviceGetCount")
        if ordinal >= count:
            raise UnsupportedError(f"there is no GPU {ordinal}: the driver finds {count}, numbered from 0")
        self.ordinal = ordinal
        self._device = call("cuDeviceGet", ordinal)
        self.name = call("cuDeviceGetName", 128, self._device).split(b"\0")[0].decode()
        self._context = call("cuDevicePrimaryCtxRetain", self._device)
        major, minor = self.attribute("COMPUTE_CAPABILITY_MAJOR"), self.attribute("COMPUTE_CAPABILITY_MINOR")
        self.arch: Arch = WITH_GROUPS if (major, minor) == WITH_GROUPS[:2] else (major, minor)
        self.multiprocessors = self.attribute("MULTIPROCESSOR_COUNT")
        self._functions: dict[Kernel, Function] = {}
        self._pool = self._result_pool()

    def attribute(self, name: str) -> int:
        """Of the device, by the driver's name for it (CU_DEVICE_ATTRIBUTE_…)."""
        which = getattr(driver().CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(call("cuDeviceGetAttribute", which, self._device))

    @contextmanager
    def current(self) -> Iterator[None]:
        call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            call("cuCtxPopCurrent")

    def wait(self) -> None:
        call("cuCtxSynchronize")

    # --- memory --------------------------------------------------------------------------------------------------
    @property
    def memory(self) -> int:
        """Bytes."""
        return int(call("cuDeviceTotalMem", self._device))

    def allocate(self, nbytes: int) -> int:
        return int(call("cuMemAlloc", nbytes))

    def free(self, address: int) -> None:
        with self.current():
            call("cuMemFree", address)

    def _result_pool(self) -> Any:
        bindings = driver()
        p = bindings.CUmemPoolProps()
        p.allocType = bindings.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        p.location.type = bindings.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        p.location.id = self.ordinal
        with self.current():
            pool = call("cuMemPoolCreate", p)
            threshold = bindings.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
            call("cuMemPoolSetAttribute", pool, threshold, bindings.cuuint64_t(KEPT))
        return pool

    def allocate_result(self, nbytes: int, stream: Stream) -> int:
        return int(call("cuMemAllocFromPoolAsync", max(nbytes, 1), self._pool, stream.handle))

    def free_result(self, address: int, stream: Stream) -> None:
        with self.current():
            gone = isinstance(stream, GpuStream) and stream.gone
            if gone:
                self.wait()
            call("cuMemFreeAsync", address, LEGACY if gone else stream.handle)

    def host_array(self, nbytes: int) -> np.ndarray:
        return np.asarray(_PageLocked(self, nbytes))

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        if nbytes:
            call("cuMemcpyAsync", to, source, nbytes, stream.handle)

    # --- streams -------------------------------------------------------------------------------------------------
    def stream(self) -> GpuStream:
        apart = driver().CUstream_flags.CU_STREAM_NON_BLOCKING  # of the legacy default stream
        return GpuStream(self, int(call("cuStreamCreate", int(apart))), True)

    def stream_of(self, handle: int) -> GpuStream:
        return GpuStream(self, handle, False)

    # --- kernels -------------------------------------------------------------------------------------------------
    def function(self, kernel: Kernel, cache: bool) -> Function:
        if kernel not in self._functions:
            cubin = cubin_of(kernel, self.arch, cache)
            with self.current():
                self._functions[kernel] = self._loaded(kernel, cubin)
        return self._functions[kernel]

    def _loaded(self, kernel: Kernel, cubin: Cubin) -> Function:
        """Raises DeviceError."""
        try:
            module = call("cuModuleLoadData", cubin.code)
            handle = call("cuModuleGetFunction", module, cubin.entry.encode())
            dynamic = driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            if cubin.dynamic:
                call("cuFuncSetAttribute", handle, dynamic, cubin.dynamic)
        except DeviceError as error:
            raise DeviceError(f"{self.name} can't load the kernel {kernel}: {error}") from error
        return Function(handle, cubin, module, kernel)

    def launch(self, launch: Launch, stream: Stream) -> None:
        function, grid, argument = launch
        if grid:
            c: Cubin = function.cubin
            held = _pointers(argument)
            given = function.handle, grid, 1, 1, c.threads, 1, 1, c.dynamic, stream.handle, held[1].ctypes.data
            if c.together:
                self.require_together(launch)
                call("cuLaunchCooperativeKernel", *given)
            else:
                call("cuLaunchKernel", *given, 0)

    def require_together(self, launch: Launch) -> None:
        """Raises DeviceError where blocks that wait for each other would not all run at once."""
        function, grid, _ = launch
        if not function.cubin.together:
            return
        fit = self.blocks_at_once(function) * self.multiprocessors
        if grid > fit:
            raise DeviceError(
                f"{self.name} runs {fit} blocks of the kernel {function.kernel} at once, and {grid} wait for each other",
                hint="it has fewer free multiprocessors than it says, or its code is of another GPU: compile on this one",
            )

    def graph(self, launches: Sequence[Launch]) -> GpuGraph:
        return GpuGraph(self, launches)

    def seconds(
        self, launches: Sequence[Launch], stream: Stream, rounds: int, before: Callable[[], None] | None = None
    ) -> float:
        if not any(launch.grid for launch in launches):
            return 0.0

        def work() -> None:
            for launch in launches:
                self.launch(launch, stream)

        return median(self.seconds_of(work, stream, rounds, before))

    def blocks_at_once(self, function: Function) -> int:
        """Of a kernel, on one multiprocessor."""
        c = function.cubin
        return int(call("cuOccupancyMaxActiveBlocksPerMultiprocessor", function.handle, c.threads, c.dynamic))

    def occupancy(self, function: Function) -> float:
        """What part of the threads that a multiprocessor can have at a time a kernel has there."""
        with self.current():
            threads = self.blocks_at_once(function) * function.cubin.threads
        return threads / self.attribute("MAX_THREADS_PER_MULTIPROCESSOR")

    def seconds_of(
        self, work: Callable[[], None], stream: Stream, rounds: int, before: Callable[[], None] | None = None
    ) -> list[float]:
        """Of what `work` gives to the stream, by its own clock, each time. before: see `Device.seconds`."""
        found = []
        with _event(timed=True) as start, _event(timed=True) as end:
            for _ in range(rounds):
                if before is not None:
                    before()
                call("cuEventRecord", start, stream.handle)
                work()
                call("cuEventRecord", end, stream.handle)
                call("cuEventSynchronize", end)
                found.append(call("cuEventElapsedTime", start, end) * 1e-3)
        return found


class _PageLocked:
    """Memory of the host that the GPU reads and writes by itself, as NumPy takes it."""

    def __init__(self, gpu: Gpu, nbytes: int) -> None:
        self._gpu = gpu
        self._address = int(call("cuMemHostAlloc", max(nbytes, 1), 0))
        self.__array_interface__ = {"shape": (nbytes,), "typestr": "|u1", "data": (self._address, False), "version": 3}

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            with suppress(Exception), self._gpu.current():
                call("cuMemFreeHost", self._address)


def _new_event(timed: bool) -> Any:
    flags = driver().CUevent_flags
    return call("cuEventCreate", int(flags.CU_EVENT_DEFAULT if timed else flags.CU_EVENT_DISABLE_TIMING))


@contextmanager
def _event(timed: bool) -> Iterator[Any]:
    """Until the end, or until it has happened."""
    made = _new_event(timed)
    try:
        yield made
    finally:
        call("cuEventDestroy", made)


def _pointers(argument: int) -> tuple[np.ndarray, np.ndarray]:
    """A kernel's parameter, and the array of pointers to its parameters."""
    value = np.array([argument], np.int64)
    return value, np.array([value.ctypes.data], np.uintp)


def _cooperative() -> tuple[Any, Any]:
    """The attribute of a node whose blocks wait for each other, and its value."""
    bindings = driver()
    value = bindings.CUkernelNodeAttrValue()
    value.cooperative = 1
    return bindings.CUkernelNodeAttrID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE, value


@contextmanager
def _parameters(launch: Launch) -> Iterator[Any]:
    """What a graph takes of a launch; it copies the kernel's parameter."""
    held = _pointers(launch.argument)
    p, c = driver().CUDA_KERNEL_NODE_PARAMS(), launch.function.cubin
    p.func = launch.function.handle
    p.gridDimX, p.gridDimY, p.gridDimZ = launch.grid, 1, 1
    p.blockDimX, p.blockDimY, p.blockDimZ = c.threads, 1, 1
    p.sharedMemBytes, p.kernelParams, p.extra = c.dynamic, held[1].ctypes.data, 0
    yield p


@lru_cache
def gpu(ordinal: int) -> Gpu:
    """GPU number `ordinal`. Raises UnsupportedError."""
    return Gpu(ordinal)

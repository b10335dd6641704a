"""The double, as tests have it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cuda.bindings.driver import CUresult

from driver_double import device_calls, graph_calls, kernel_calls, library, memory_calls, stream_calls
from driver_double.abi import FUNCTIONS, Refused, driver_function, handle, i32, text, to, u64
from driver_double.kernel_calls import CODES, MAGIC, Code
from driver_double.state import State
from graphc.backends.cuda.codegen.arch import Arch
from graphc.backends.cuda.codegen.build import emulated
from graphc.backends.cuda.codegen.cubin import Cubin
from graphc.backends.cuda.runtime import driver, gpu
from graphc.lower.kernel import Kernel

MODULES = (device_calls, graph_calls, kernel_calls, memory_calls, stream_calls)  # which register functions
EARLY = ("cuInit", "cuDriverGetVersion", "cuGetErrorString", "cuGetErrorName", "cuGetProcAddress")
LATE = ("cuGetErrorString", "cuGetErrorName", "cuCtxPopCurrent", "cuCtxPushCurrent")  # answer when a kernel has failed
_state: State | None = None
_callbacks: dict[str, Any] = {}


@contextmanager
def double(**facts: Any) -> Iterator[State]:
    """What cuda.bindings finds until the end: see State. Fails where something was refused that the test does not expect, or
    memory and handles are left."""
    global _state
    if not _callbacks:
        _load()
    _forget()
    _state = d = State(**facts)
    try:
        yield d
        gc.collect()
        d.queue.finish_all()
        _forget()
        gc.collect()
        d.verify()
    finally:
        _forget()
        _state = None


def _forget() -> None:
    """What graphc keeps of the driver in a process."""
    gpu.gpu.cache_clear()
    driver.driver.cache_clear()


def cubin_of(kernel: Kernel, arch: Arch, cache: bool = True) -> Cubin:
    """In place of a compiled one: a name, by which the double knows what to run."""
    watch = _state is not None and _state.watch
    run = emulated(kernel, arch, watch, cache)
    body = f"{arch} {watch} {kernel.spec}".encode()
    code = MAGIC + (len(MAGIC) + 8 + len(body)).to_bytes(8, "little") + body
    CODES[code] = Code(kernel, arch, kernel.symbol, run)
    return Cubin(code, kernel.symbol, run.threads, run.shared, 32, 0, 0, run._shared_bytes - run.shared, run.together)


def _load() -> None:
    for name, f in FUNCTIONS.items():
        _callbacks[name] = ctypes.CFUNCTYPE(i32, *f.types)(_answering(name))
    library.load({"cuGetProcAddress_v2": _address("cuGetProcAddress")})
    gpu.cubin_of = cubin_of  # type: ignore[attr-defined]
    gc.freeze()  # what is there already: collections between tests are quick


def _address(name: str) -> int:
    found = ctypes.cast(_callbacks[name], ctypes.c_void_p).value
    assert found is not None
    return found


def _answering(name: str) -> Callable[..., int]:
    f = FUNCTIONS[name]

    def answer(*args: Any) -> int:
        d = _state
        if d is None:
            return int(CUresult.CUDA_ERROR_DEINITIALIZED)
        try:
            with d.lock:
                d.calls[name] += 1
                _before(d, name)
                if f.context:
                    d.current()
                lost = d.lost
                f.body(d, *args)
                if d.lost != lost:
                    raise Refused(d.lost)
        except Refused as refused:
            d.refusal(name, refused)
            return int(refused.status)
        except BaseException as error:
            d.broken.append(error)
            return int(CUresult.CUDA_ERROR_UNKNOWN)
        return 0

    return answer


def _before(d: State, name: str) -> None:
    if not d.started and name not in EARLY:
        raise Refused("NOT_INITIALIZED")
    if d.refuse.get(name):
        raise Refused(d.refuse[name].pop(0))
    if d.lost is not None and name not in LATE:
        raise Refused(d.lost)


def _unknown(name: str) -> Any:
    """What the double has not: it says so when it is called."""

    def answer() -> int:
        if _state is not None:
            _state.calls[name] += 1
            _state.broken.append(AssertionError(f"the double of the driver has no {name} (of this version of CUDA)"))
        return int(CUresult.CUDA_ERROR_UNKNOWN)

    return ctypes.CFUNCTYPE(i32)(answer)


@driver_function(12000, text, to(u64), i32, handle, to(i32), context=False)
def cuGetProcAddress(d: State, symbol: bytes, to: Any, version: int, flags: int, status: Any) -> None:
    """Once for all doubles: cuda.bindings keeps what it finds."""
    name = symbol.decode()
    f = FUNCTIONS.get(name)
    if f is not None and f.since <= version < f.until:
        to[0] = _address(name)
    else:
        key = f"{name} {version}"
        _callbacks[key] = _unknown(key)
        to[0] = _address(key)
    if status:
        status[0] = 0

"""Functions of devices and contexts."""

from __future__ import annotations

import ctypes
from typing import Any

from cuda.bindings.driver import CUdevice_attribute

from driver_double.abi import Refused, driver_function, handle, i32, size, to, u32, u64
from driver_double.state import State

MULTIPROCESSORS = 4
OPT_IN = {
    (8, 0): 163,
    (8, 6): 99,
    (8, 9): 99,
    (9, 0): 227,
    (10, 0): 227,
    (12, 0): 99,
}  # KiB of shared memory of a block


def shared_limit(arch: tuple[int, int]) -> int:
    return OPT_IN[arch] << 10


def _attributes(arch: tuple[int, int]) -> dict[str, int]:
    return {
        "COMPUTE_CAPABILITY_MAJOR": arch[0],
        "COMPUTE_CAPABILITY_MINOR": arch[1],
        "MULTIPROCESSOR_COUNT": MULTIPROCESSORS,
        "MAX_THREADS_PER_BLOCK": 1024,
        "MAX_THREADS_PER_MULTIPROCESSOR": 2048,
        "MAX_SHARED_MEMORY_PER_BLOCK": 48 << 10,
        "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": shared_limit(arch),
        "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR": shared_limit(arch) + 1024,
        "MEMORY_POOLS_SUPPORTED": 1,
        "UNIFIED_ADDRESSING": 1,
        "CAN_MAP_HOST_MEMORY": 1,
        "WARP_SIZE": 32,
        "INTEGRATED": 0,
        "PAGEABLE_MEMORY_ACCESS": 0,
        "L2_CACHE_SIZE": 32 << 20,
        "CLOCK_RATE": 1_500_000,
        "MEMORY_CLOCK_RATE": 2_600_000,
        "GLOBAL_MEMORY_BUS_WIDTH": 4096,
    }


def _device(d: State, number: int) -> int:
    if not 0 <= number < d.devices:
        raise Refused("INVALID_DEVICE", f"{number} of {d.devices}")
    return number


@driver_function(2000, u32, context=False)
def cuInit(d: State, flags: int) -> None:
    if flags:
        raise Refused("INVALID_VALUE", "flags")
    if not d.devices:
        raise Refused("NO_DEVICE")
    d.started = True


@driver_function(2020, to(i32), context=False)
def cuDriverGetVersion(d: State, version: Any) -> None:
    version[0] = d.version


@driver_function(2000, to(i32), context=False)
def cuDeviceGetCount(d: State, count: Any) -> None:
    count[0] = d.devices


@driver_function(2000, to(i32), i32, context=False)
def cuDeviceGet(d: State, device: Any, ordinal: int) -> None:
    device[0] = _device(d, ordinal)


@driver_function(2000, u64, i32, i32, context=False)
def cuDeviceGetName(d: State, name: int, length: int, device: int) -> None:
    said = f"double {_device(d, device)}".encode()[: length - 1] + b"\0"
    ctypes.memmove(name, said, len(said))


@driver_function(2000, to(i32), i32, i32, context=False)
def cuDeviceGetAttribute(d: State, value: Any, attribute: int, device: int) -> None:
    _device(d, device)
    name = CUdevice_attribute(attribute).name.removeprefix("CU_DEVICE_ATTRIBUTE_")
    value[0] = _attributes(d.arch)[name]


@driver_function(3020, to(size), i32, context=False)
def cuDeviceTotalMem(d: State, nbytes: Any, device: int) -> None:
    _device(d, device)
    nbytes[0] = d.memory.limit


@driver_function(7000, to(handle), i32, context=False)
def cuDevicePrimaryCtxRetain(d: State, context: Any, device: int) -> None:
    c = d.contexts[_device(d, device)]
    c.retained += 1
    context[0] = c.handle


@driver_function(11000, i32, context=False)
def cuDevicePrimaryCtxRelease(d: State, device: int) -> None:
    c = d.contexts[_device(d, device)]
    if not c.retained:
        raise Refused("INVALID_CONTEXT", "released too often")
    c.retained -= 1


@driver_function(4000, handle, context=False)
def cuCtxPushCurrent(d: State, context: int) -> None:
    d.stack.append(d.context_of(context))


@driver_function(4000, to(handle))
def cuCtxPopCurrent(d: State, context: Any) -> None:
    found = d.stack.pop()
    if context:
        context[0] = found.handle


@driver_function(4000, to(handle), context=False)
def cuCtxGetCurrent(d: State, context: Any) -> None:
    context[0] = d.stack[-1].handle if d.stack else 0


@driver_function(4000, handle, context=False)
def cuCtxSetCurrent(d: State, context: int) -> None:
    if d.stack:
        d.stack.pop()
    if context:
        d.stack.append(d.context_of(context))


@driver_function(2000, to(i32), until=13_000)
def cuCtxGetDevice(d: State, device: Any) -> None:
    device[0] = d.current().device


@driver_function(2000, until=13_000)
def cuCtxSynchronize(d: State) -> None:
    d.queue.finish_all()


@driver_function(6000, i32, to(u64), context=False)
def cuGetErrorString(d: State, status: int, said: Any) -> None:
    said[0] = ctypes.cast(d.text_of(status), ctypes.c_void_p).value


@driver_function(6000, i32, to(u64), context=False)
def cuGetErrorName(d: State, status: int, said: Any) -> None:
    said[0] = ctypes.cast(d.text_of(status, short=True), ctypes.c_void_p).value

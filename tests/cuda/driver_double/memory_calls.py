"""Functions of memory: allocations, pools, copies, what a pointer is."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cuda.bindings.driver import CUpointer_attribute

from driver_double.abi import MemPoolProps, Refused, address, driver_function, handle, i32, size, to, u32, u64
from driver_double.memory import Allocation
from driver_double.state import Handle, State
from driver_double.stream_calls import give

PINNED, ON_DEVICE = 1, 1  # CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE
RELEASE_THRESHOLD = 4
HOST, DEVICE = 1, 2  # CUmemorytype


@dataclass(eq=False)
class MemPool(Handle):
    threshold: int = 0


def _unused(d: State, a: Allocation) -> None:
    for work in d.queue.pending():
        for first, end in work.touches:
            assert end <= a.first or first >= a.end, f"{a} is freed, and {work.what} in flight uses it"


@driver_function(3020, to(address), size)
def cuMemAlloc(d: State, to: Any, nbytes: int) -> None:
    to[0] = d.memory.allocate(nbytes, "device", d.current().device).first


@driver_function(3020, address)
def cuMemFree(d: State, at: int) -> None:
    if at:
        a = d.memory.started_at(at, "device", "pool")
        _unused(d, a)
        d.memory.free(a)


@driver_function(2020, to(address), size, u32)
def cuMemHostAlloc(d: State, to: Any, nbytes: int, flags: int) -> None:
    assert flags in (0, 1, 2, 3), f"flags {flags}: the double knows portable and mapped"
    to[0] = d.memory.allocate(nbytes, "pinned", d.current().device).first


@driver_function(2000, address)
def cuMemFreeHost(d: State, at: int) -> None:
    a = d.memory.started_at(at, "pinned")
    _unused(d, a)
    d.memory.free(a)


@driver_function(11020, to(handle), to(MemPoolProps), context=False)
def cuMemPoolCreate(d: State, to: Any, properties: Any) -> None:
    p = properties[0]
    if p.allocType != PINNED or p.location.type != ON_DEVICE or not 0 <= p.location.id < d.devices:
        raise Refused("INVALID_VALUE", "not memory of a device")
    if p.handleTypes or p.win32SecurityAttributes or any(p.reserved):
        raise Refused("INVALID_VALUE", "handle types, or fields that are to be 0")
    to[0] = d.add(MemPool(d.contexts[p.location.id]))


@driver_function(11020, handle, i32, to(u64), context=False)
def cuMemPoolSetAttribute(d: State, pool: int, attribute: int, value: Any) -> None:
    assert attribute == RELEASE_THRESHOLD, f"attribute {attribute} of a pool"
    d.get(MemPool, pool, anywhere=True).threshold = value[0]


@driver_function(11020, handle, context=False)
def cuMemPoolDestroy(d: State, pool: int) -> None:
    d.drop(MemPool, pool)


@driver_function(11020, to(address), size, handle, handle)
def cuMemAllocFromPoolAsync(d: State, to: Any, nbytes: int, pool: int, stream: int) -> None:
    a = d.memory.allocate(nbytes, "pool", d.get(MemPool, pool).context.device, "coming")

    def arrive() -> None:
        a.state = "live"

    to[0] = a.first
    give(d, stream, f"the allocation of {nbytes} bytes", arrive)


@driver_function(11020, address, handle)
def cuMemFreeAsync(d: State, at: int, stream: int) -> None:
    a = d.memory.started_at(at, "pool")

    def go() -> None:
        usable(a, "is freed in a stream")
        d.memory.free(a)

    give(d, stream, f"the end of {a}", go)
    a.freed = True


@driver_function(3020, to(size), to(size))
def cuMemGetInfo(d: State, free: Any, total: Any) -> None:
    free[0], total[0] = d.memory.limit - d.memory.used("device", "pool"), d.memory.limit


@driver_function(4000, address, address, size, handle)
def cuMemcpyAsync(d: State, to: int, source: int, nbytes: int, stream: int) -> None:
    if not nbytes:
        return
    ends = [(at, d.memory.range_of(at, nbytes)) for at in (to, source)]
    held = ctypes.string_at(source, nbytes) if ends[1][1] is None else None  # pageable: read now
    what = f"a copy of {nbytes} bytes from {ends[1][1] or 'pageable memory'} to {ends[0][1] or 'pageable memory'}"

    def act() -> None:
        for at, a in ends:
            if a is not None:
                usable(a, f"{what} uses {at:#x}")
        ctypes.memmove(to, source if held is None else held, nbytes)

    work = give(d, stream, what, act, [(at, at + nbytes) for at, a in ends if a is not None])
    if ends[0][1] is None:
        d.queue.wait_for(work)


def usable(a: Allocation, what: str) -> None:
    """By work that happens now."""
    assert a.state == "live", f"{what}, {a}"


def _pointer_facts(d: State, at: int, a: Allocation) -> dict[str, Callable[[], Any]]:
    kind = HOST if a.kind == "pinned" else DEVICE
    return {
        "CONTEXT": lambda: u64(d.contexts[a.device].handle if a.kind != "pool" else 0),
        "MEMORY_TYPE": lambda: u32(kind),
        "DEVICE_POINTER": lambda: u64(at),
        "HOST_POINTER": lambda: u64(at if kind == HOST else 0),
        "BUFFER_ID": lambda: u64(a.number),
        "IS_MANAGED": lambda: u32(0),
        "DEVICE_ORDINAL": lambda: i32(a.device),
        "RANGE_START_ADDR": lambda: u64(a.first),
        "RANGE_SIZE": lambda: size(a.nbytes),
        "MAPPED": lambda: u32(1),
        "MEMPOOL_HANDLE": lambda: u64(0),
    }


_NOTHING = {
    "CONTEXT": u64(0), "MEMORY_TYPE": u32(0), "DEVICE_POINTER": u64(0), "HOST_POINTER": u64(0), "IS_MANAGED": u32(0),
    "DEVICE_ORDINAL": i32(-2), "RANGE_START_ADDR": u64(0), "RANGE_SIZE": size(0), "MAPPED": u32(0),
}  # fmt: skip


def _put(d: State, to: int, attribute: int, at: int) -> bool:
    """False for a pointer that the driver does not know."""
    name = CUpointer_attribute(attribute).name.removeprefix("CU_POINTER_ATTRIBUTE_")
    a = d.memory.find(at)
    assert a is None or a.state != "gone", f"attributes of {at:#x}, which lies in {a}"
    value = _NOTHING[name] if a is None else _pointer_facts(d, at, a)[name]()
    ctypes.memmove(to, ctypes.addressof(value), ctypes.sizeof(value))
    return a is not None


@driver_function(4000, address, i32, address, context=False)
def cuPointerGetAttribute(d: State, to: int, attribute: int, at: int) -> None:
    if not _put(d, to, attribute, at):
        raise Refused("INVALID_VALUE", f"{at:#x} is a pointer that the driver does not know")


@driver_function(7000, u32, to(i32), to(u64), address, context=False)
def cuPointerGetAttributes(d: State, count: int, attributes: Any, to: Any, at: int) -> None:
    for i in range(count):
        _put(d, to[i], attributes[i], at)

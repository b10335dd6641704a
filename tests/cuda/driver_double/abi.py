"""How C calls a function of the double: types, results, and which errors are refusals.

A function of the driver is a Python function of the double's state and its C arguments, handles and addresses as numbers:

    @driver_function(3020, to(u64), size)
    def cuMemAlloc(d, address, nbytes):
        address[0] = ...

It raises `Refused` for what the driver answers with an error. Whatever else it raises, as AssertionError for what the driver
would crash on or let pass silently, ends in `State.broken`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER
from typing import Any, NamedTuple

from cuda.bindings.driver import CUresult

i32, u32, u64, size, text = ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_char_p
address = handle = u64  # never None, as c_void_p is


def to(kind: Any) -> Any:
    """Where a result goes, or an array is."""
    return POINTER(kind)


class Refused(Exception):
    """The driver's answer, and why."""

    def __init__(self, status: str, why: str = "") -> None:
        super().__init__(f"CUDA_ERROR_{status}: {why}" if why else f"CUDA_ERROR_{status}")
        self.status = getattr(CUresult, f"CUDA_ERROR_{status}")


class Function(NamedTuple):
    """since, until: the versions of CUDA whose signature this is. context: does one have to be current?"""

    since: int
    until: int
    types: tuple[Any, ...]
    context: bool
    body: Callable[..., None]


FUNCTIONS: dict[str, Function] = {}


def driver_function(
    since: int, *types: Any, until: int = 1 << 30, context: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def register(body: Callable[..., None]) -> Callable[..., None]:
        FUNCTIONS[body.__name__] = Function(since, until, types, context, body)
        return body

    return register


class KernelNodeParams(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2."""

    _fields_ = [
        ("func", u64),
        ("grid", u32 * 3),
        ("block", u32 * 3),
        ("shared", u32),
        ("kernelParams", u64),
        ("extra", u64),
        ("kern", u64),
        ("ctx", u64),
    ]


class MemLocation(ctypes.Structure):
    _fields_ = [("type", i32), ("id", i32)]


class MemPoolProps(ctypes.Structure):
    """CUmemPoolProps. The driver wants zeros in what is reserved."""

    _fields_ = [
        ("allocType", i32),
        ("handleTypes", i32),
        ("location", MemLocation),
        ("win32SecurityAttributes", u64),
        ("maxSize", size),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 54),
    ]


assert ctypes.sizeof(KernelNodeParams) == 72 and ctypes.sizeof(MemPoolProps) == 88

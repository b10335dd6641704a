"""Functions of kernels: code that is loaded, launches. A cubin is only a name here: the emulator runs the kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from driver_double.abi import KernelNodeParams, Refused, driver_function, handle, i32, size, text, to, u32, u64
from driver_double.device_calls import MULTIPROCESSORS, shared_limit
from driver_double.memory import read_words
from driver_double.memory_calls import usable
from driver_double.state import Handle, State
from driver_double.stream_calls import give
from graphc.backends.cuda.codegen.arch import Arch
from graphc.backends.cuda.emulator import EmulatedKernel, KernelFault, Range
from graphc.backends.cuda.emulator.faults import MISALIGNED, OUT_OF_BOUNDS
from graphc.lower.kernel import Kernel

SHARED = 48 << 10  # bytes of a block, unless a kernel asks for more
MOST_SHARED_ATTRIBUTE = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
MOST_GRID = ((1 << 31) - 1, 65535, 65535)
MAGIC = b"\x7fdouble "


class Code(NamedTuple):
    """What a cubin stands for. arch: of the GPU that it is compiled for."""

    kernel: Kernel
    arch: Arch
    entry: str
    run: EmulatedKernel


CODES: dict[bytes, Code] = {}


@dataclass(eq=False)
class Module(Handle):
    code: Code


@dataclass(eq=False)
class Function(Handle):
    code: Code
    allowed: int = 0  # bytes of dynamic shared memory, where they are more than others may have

    @property
    def static(self) -> int:
        return self.code.run._shared_bytes - self.code.run.shared


class LaunchOf(NamedTuple):
    """As the driver keeps it: the value of the kernel's parameter is read. together: all its blocks run at once."""

    function: Function
    grid: int
    argument: int
    together: bool = False


@driver_function(2000, to(handle), u64)
def cuModuleLoadData(d: State, to: Any, image: int) -> None:
    code = CODES.get(ctypes.string_at(image, _length(image)))
    if code is None:
        raise Refused("INVALID_IMAGE", "this cubin is not known to the double")
    if code.arch[:2] != d.arch:
        raise Refused("NO_BINARY_FOR_GPU", f"code for {code.arch} on {d.arch}")
    to[0] = d.add(Module(d.current(), code))


def _length(image: int) -> int:
    """Of a cubin, which says so itself."""
    head = ctypes.string_at(image, len(MAGIC) + 8)
    if head.startswith(MAGIC):
        return int.from_bytes(head[len(MAGIC) :], "little")
    if not head.startswith(b"\x7fELF\2"):
        raise Refused("INVALID_IMAGE", "no ELF")
    at = ctypes.c_uint64.from_address(image + 40).value  # the table of sections, which is last
    each, count = (ctypes.c_uint16 * 2).from_address(image + 58)
    segments = ctypes.c_uint64.from_address(image + 32).value
    size_of, number = (ctypes.c_uint16 * 2).from_address(image + 54)
    return max(at + each * count, segments + size_of * number)


@driver_function(2000, handle)
def cuModuleUnload(d: State, module: int) -> None:
    d.drop(Module, module)


@driver_function(2000, to(handle), handle, text)
def cuModuleGetFunction(d: State, to: Any, module: int, name: bytes) -> None:
    m = d.get(Module, module)
    if name.decode() != m.code.entry:
        raise Refused("NOT_FOUND", f"{name.decode()} in {m.code.entry}")
    to[0] = d.add(Function(m.context, m.code))


@driver_function(9000, handle, i32, i32)
def cuFuncSetAttribute(d: State, function: int, attribute: int, value: int) -> None:
    f = d.get(Function, function)
    assert attribute == MOST_SHARED_ATTRIBUTE, f"attribute {attribute} of a function"
    if not 0 <= value + f.static <= shared_limit(d.arch):
        raise Refused("INVALID_VALUE", f"{value} bytes of shared memory beside {f.static}")
    f.allowed = value


@driver_function(6050, to(i32), handle, i32, size)
def cuOccupancyMaxActiveBlocksPerMultiprocessor(d: State, count: Any, function: int, threads: int, shared: int) -> None:
    count[0] = blocks_at_once(d, d.get(Function, function), threads, shared)


def blocks_at_once(d: State, f: Function, threads: int, shared: int) -> int:
    by_shared = (shared_limit(d.arch) + 1024) // (f.static + shared + 1024)
    return min(32, 2048 // threads, by_shared)


@driver_function(4000, handle, *[u32] * 7, handle, to(u64), u64)
def cuLaunchKernel(
    d: State,
    function: int,
    gx: int,
    gy: int,
    gz: int,
    bx: int,
    by: int,
    bz: int,
    shared: int,
    stream: int,
    at: Any,
    more: int,
) -> None:
    launch = checked(d, function, (gx, gy, gz), (bx, by, bz), shared, at, more)
    give(d, stream, f"a launch of {launch.function.code.kernel}", lambda: run(d, launch), touched([launch]))


@driver_function(9000, handle, *[u32] * 7, handle, to(u64))
def cuLaunchCooperativeKernel(
    d: State,
    function: int,
    gx: int,
    gy: int,
    gz: int,
    bx: int,
    by: int,
    bz: int,
    shared: int,
    stream: int,
    at: Any,
) -> None:
    launch = together(d, checked(d, function, (gx, gy, gz), (bx, by, bz), shared, at, 0))
    give(d, stream, f"a launch of {launch.function.code.kernel}", lambda: run(d, launch), touched([launch]))


def together(d: State, launch: LaunchOf) -> LaunchOf:
    """A launch all of whose blocks run at once. Refused where they don't fit."""
    kernel = launch.function.code.run
    fit = MULTIPROCESSORS * blocks_at_once(d, launch.function, kernel.threads, kernel.shared)
    if launch.grid > fit:
        raise Refused("COOPERATIVE_LAUNCH_TOO_LARGE", f"{launch.grid} blocks, and {fit} fit")
    return launch._replace(together=True)


def checked(d: State, function: int, grid: Any, block: Any, shared: int, parameters: Any, extra: int) -> LaunchOf:
    f = d.get(Function, function)
    kernel, code = f.code.run, f.code
    for n, most in zip(grid, MOST_GRID):
        if not 0 < n <= most:
            raise Refused("INVALID_VALUE", f"a grid of {tuple(grid)} blocks")
    if not 0 < block[0] * block[1] * block[2] <= kernel.threads:
        raise Refused("INVALID_VALUE", f"{tuple(block)} threads, and .maxntid is {kernel.threads}")
    if shared > max(SHARED - f.static, f.allowed):
        raise Refused("INVALID_VALUE", f"{shared} bytes of dynamic shared memory, without cuFuncSetAttribute")
    if not parameters:
        raise Refused("INVALID_VALUE", "no parameters")
    assert tuple(block) == (kernel.threads, 1, 1), f"{code.kernel} with {tuple(block)} threads, not {kernel.threads}"
    assert shared == kernel.shared, f"{code.kernel} with {shared} bytes of shared memory, not {kernel.shared}"
    assert grid[1] == grid[2] == 1 and not extra
    return LaunchOf(f, grid[0], ctypes.c_int64.from_address(parameters[0]).value)


def from_node(d: State, parameters: Any) -> LaunchOf:
    """What a graph is given of a launch."""
    p: KernelNodeParams = parameters[0]
    if p.kern or p.ctx:
        raise Refused("INVALID_VALUE", "a function and a kernel, or another context")
    at = ctypes.cast(p.kernelParams, ctypes.POINTER(u64)) if p.kernelParams else None
    return checked(d, p.func, [*p.grid], [*p.block], p.shared, at, p.extra)


def touched(launches: Iterable[LaunchOf]) -> list[tuple[int, int]]:
    """Argument blocks."""
    return [(n.argument, n.argument + 8 * n.function.code.kernel.block.size) for n in launches]  # type: ignore[attr-defined]


def run(d: State, launch: LaunchOf) -> None:
    f, grid, argument, together = launch
    assert together == f.code.run.together, f"{f.code.kernel}: do its blocks wait for each other?"
    if d.launches_fail:
        d.lose(d.launches_fail.pop(0))
        return
    kernel = f.code.kernel
    count = kernel.block.size  # type: ignore[attr-defined]
    block = d.memory.find(argument)
    assert block is not None, f"{kernel}: its argument block at {argument:#x} is no memory of the device"
    usable(block, f"{kernel} is launched with its argument block in")
    assert argument % 8 == 0 and argument + 8 * count <= block.end, f"{kernel}: its argument block is not in {block}"
    words = read_words(argument, count)
    assert words[0] == grid, f"{kernel}: a grid of {grid} is launched, its argument block says {words[0]}"
    for i, word in enumerate(words):
        found = d.memory.find(word)
        if found is not None:
            usable(found, f"{kernel} is given {word:#x} as word {i}")
    ranges = [Range(a.first, a.end, 1, str(a)) for a in d.memory.live()] if f.code.run.check else []
    d.launched[str(kernel)] += 1
    d.queue.time += d.takes(str(kernel))
    try:
        f.code.run.launch(grid, argument, ranges)
    except KernelFault as error:
        d.broken.append(error)
        d.lose(
            "ILLEGAL_ADDRESS"
            if error.code == OUT_OF_BOUNDS
            else "MISALIGNED_ADDRESS"
            if error.code == MISALIGNED
            else "LAUNCH_FAILED"
        )

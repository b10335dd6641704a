"""What makes the code of kernels.

Two kinds of native functions, both plain object files in the end:
- a *micro-kernel* is emitted as LLVM IR by a function registered with `@micro`: the inner loops, specialised by register
  tile, dtype and epilogue;
- a *driver* is a Numba function registered with `@driver`: the loops around micro-kernels, sizes at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import signature
from typing import NamedTuple

from graphc.backends.cpu.families import load
from graphc.lower.kernel import Kernel


class Built(NamedTuple):
    """A kernel's object code, and its readable source."""

    code: bytes
    source: str
    suffix: str


@dataclass(frozen=True)
class Micro:
    """Emits LLVM IR."""

    emit: Callable  # (module, symbol, target, **fields) -> None: adds the function to the llvmlite module
    unroll: bool


@dataclass(frozen=True)
class Driver:
    """Makes a Numba function. computes: its own loops do the work."""

    make: Callable  # (target, **fields) -> (Numba-compilable function, its signature)
    computes: bool


_GENERATORS: dict[str, Micro | Driver] = {}  # by the kernel's name


def micro(kernel: type[Kernel], unroll: bool = True) -> Callable:
    """Register a generator of LLVM IR. unroll: may LLVM unroll loops whose counts are arguments? It does not know which are
    short."""

    def register(emit: Callable) -> Callable:
        _register(kernel, Micro(emit, unroll), emit, given=3)
        return emit

    return register


def driver(kernel: type[Kernel], computes: bool = False) -> Callable:
    """Register a maker of a Numba function. computes: its own loops do the work, no micro-kernel; they are worth more
    time to compile."""

    def register(make: Callable) -> Callable:
        _register(kernel, Driver(make, computes), make, given=1)
        return make

    return register


def _register(kernel: type[Kernel], generator: Micro | Driver, function: Callable, given: int) -> None:
    """given: parameters before the kernel's fields. Raises TypeError where the others are not those, in their order."""
    assert kernel.name not in _GENERATORS, kernel.name
    takes, has = [*signature(function).parameters][given:], [f.name for f in fields(kernel)]
    if takes != has:
        raise TypeError(f"{function.__module__}.{function.__name__} takes {takes}, but {kernel.__name__} has {has}")
    _GENERATORS[kernel.name] = generator


def generator_of(kernel: Kernel) -> Micro | Driver:
    """What makes a kernel's code."""
    load("micro")
    if kernel.name not in _GENERATORS:
        load("driver")  # with Numba, which is slow to load
    return _GENERATORS[kernel.name]


def is_micro(kernel: Kernel) -> bool:
    load("micro")
    return isinstance(_GENERATORS.get(kernel.name), Micro)

"""What makes the code of kernels.

Two kinds of native functions, both plain object files in the end:
- a *micro-kernel* is emitted as LLVM IR by a function registered with `@micro`: the inner loops, specialised by register
  tile, dtype and epilogue;
- a *driver* is a Numba function registered with `@driver`: the loops around micro-kernels, sizes at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

    emit: Callable  # (module, symbol, target, *params) -> None: adds the function to the llvmlite module
    unroll: bool


@dataclass(frozen=True)
class Driver:
    """Makes a Numba function. computes: its own loops do the work."""

    make: Callable  # (target, *params) -> (Numba-compilable function, its signature)
    computes: bool


_GENERATORS: dict[str, Micro | Driver] = {}


def micro(name: str, unroll: bool = True) -> Callable:
    """Register a generator of LLVM IR. unroll: may LLVM unroll loops whose counts are arguments? It does not know which are
    short."""

    def register(emit: Callable) -> Callable:
        assert name not in _GENERATORS, name
        _GENERATORS[name] = Micro(emit, unroll)
        return emit

    return register


def driver(name: str, computes: bool = False) -> Callable:
    """Register a maker of a Numba function. computes: its own loops do the work, no micro-kernel; they are worth more
    time to compile."""

    def register(make: Callable) -> Callable:
        assert name not in _GENERATORS, name
        _GENERATORS[name] = Driver(make, computes)
        return make

    return register


def generator_of(kernel: Kernel) -> Micro | Driver:
    """What makes a kernel's code."""
    load("micro")
    if kernel.name not in _GENERATORS:
        load("driver")  # with Numba, which is slow to load
    return _GENERATORS[kernel.name]


def is_micro(kernel: Kernel) -> bool:
    load("micro")
    return isinstance(_GENERATORS.get(kernel.name), Micro)

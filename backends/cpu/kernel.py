"""Kernels by name, and what makes their code.

Two kinds of native functions, both plain object files in the end:
- a *micro-kernel* is emitted as LLVM IR by a function registered with `@micro`: the inner loops, specialised by register
  tile, dtype and epilogue;
- a *driver* is a Numba function registered with `@driver`: the loops around micro-kernels, sizes at run time.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple


def _word(parameter: object) -> str:
    """A parameter within a kernel's name; nothing of tuples that hold more than numbers."""
    if not isinstance(parameter, tuple):
        return str(parameter)
    return ".".join(map(str, parameter)) if all(isinstance(n, int) for n in parameter) else ""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Names a native function: the registered generator and what specialises it (with a faithful repr).

    Kernels are compared by that text: 0.0 and -0.0, or 1 and True, are equal as numbers and other code.
    """

    name: str
    params: tuple = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __str__(self) -> str:
        text = "_".join(filter(None, map(_word, self.params)))
        return f"{self.name}_{text}" if text else self.name

    @cached_property
    def spec(self) -> str:
        """What the kernel is, in full."""
        return repr(self)

    @cached_property
    def symbol(self) -> str:
        safe = "".join(c if c.isalnum() else "_" for c in str(self))[:48]
        return f"graphc_{safe}_{hashlib.sha256(self.spec.encode()).hexdigest()[:12]}"


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


@lru_cache
def load_generators(kind: str) -> None:
    """Import all modules of 'micro' or 'drivers'."""
    package = importlib.import_module(f"graphc.backends.cpu.{kind}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def generator_of(kernel: Kernel) -> Micro | Driver:
    """What makes a kernel's code."""
    load_generators("micro")
    if kernel.name not in _GENERATORS:
        load_generators("drivers")  # with Numba, which is slow to load
    return _GENERATORS[kernel.name]


def is_micro(kernel: Kernel) -> bool:
    load_generators("micro")
    return isinstance(_GENERATORS.get(kernel.name), Micro)

"""What this process holds for the CPU, one object per target: threads, loaded machine code, and what makes it."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphc.backends.cpu.runtime.threads import Executor, runtime_kernels

if TYPE_CHECKING:
    from graphc.backends.cpu.codegen.toolchain import Toolchain


class CpuRuntime:
    """Of one target; all models share it. Thread-safe, and usable in the child of a fork."""

    _loads = itertools.count()  # of shared objects, whatever target they are for

    def __init__(self, target: str) -> None:
        """target: with its instruction set, 'cpu:avx2'."""
        self.target = target
        self._executors: dict[int, Executor] = {}  # by the number of threads
        self._libraries: dict[str, ctypes.CDLL] = {}  # by digest
        self._toolchains: dict[bool, Toolchain] = {}
        self._lock = threading.Lock()

    def toolchain(self, cache: bool = True) -> Toolchain:
        """What compiles and links kernels; it needs LLVM. cache: may it keep them on disk?"""
        from graphc.backends.cpu.codegen.toolchain import Toolchain
        from graphc.backends.cpu.target import detect

        with self._lock:
            if cache not in self._toolchains:
                self._toolchains[cache] = Toolchain(detect(self.target.partition(":")[2]), cache)
            return self._toolchains[cache]

    def executor(self, threads: int, cache: bool = True) -> Executor:
        """What runs programs with so many threads. Its kernels are compiled where nobody has them."""
        kernels = runtime_kernels(threads)
        addresses = self.toolchain(cache).addresses(kernels)
        return self.executor_at(threads, [addresses[k] for k in kernels])

    def executor_at(self, threads: int, addresses: Sequence[int]) -> Executor:
        """The same, where the addresses of `runtime_kernels(threads)` are known already."""
        with self._lock:
            if threads not in self._executors:
                self._executors[threads] = Executor(threads, addresses)
            return self._executors[threads]

    def library(self, fd: int, digest: str) -> ctypes.CDLL:
        """The shared object that is open: by its name another could be loaded. Raises OSError.

        One of a content is enough, and stays, as all machine code does: threads may be in it. The loader takes a name that
        it has seen for what it loaded then, and numbers of descriptors come again: so each load spells the same path in
        another way.
        """
        with self._lock:
            if digest not in self._libraries:
                number = next(self._loads)
                spelling = "".join("/." if number >> bit & 1 else "/" for bit in range(32))
                self._libraries[digest] = ctypes.CDLL(f"/proc/self/fd{spelling}/{fd}")
            return self._libraries[digest]

    def after_fork(self) -> None:
        """In the child: threads are gone, and whoever held the lock."""
        self._lock = threading.Lock()
        for executor in self._executors.values():
            executor.after_fork()


RUNTIMES: dict[str, CpuRuntime] = {}  # by target, for good: threads wait in their code


def runtime_of(target: object) -> CpuRuntime:
    """The process's runtime for a target, or for its name."""
    name = str(target)
    return RUNTIMES.get(name) or RUNTIMES.setdefault(name, CpuRuntime(name))


def _after_fork() -> None:
    for runtime in RUNTIMES.values():
        runtime.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""Worker threads: they live in native code, take a whole program at a time, and never hold the GIL."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading

import numpy as np

from backends.cpu.target import Target
from backends.cpu.toolchain import Kernel, Toolchain

SPINS = 2000  # pauses before a waiting thread sleeps in the kernel: about 50 µs
_L = ctypes.c_int64
# layout of the control block: backends/cpu/drivers/executor.py, repeated here because a cached program needs no Numba
_CACHE_LINE, _JOB, _QUIT = 64, 3, 5


class Executor:
    """Runs programs of one target with a given number of threads; programs that overlap in time run on one thread each."""

    def __init__(self, tools: Toolchain, threads: int) -> None:
        self.threads = threads
        self._tools = tools
        self._single = tools.function(Kernel("execute"), None, _L, _L)
        self._pool: _Pool | None = None
        self._busy = threading.Lock()

    def run(self, steps: int, count: int) -> None:
        """A table of `count` (driver, argument block) pairs at address `steps`."""
        if self.threads == 1 or not self._busy.acquire(blocking=False):
            self._single(steps, count)
            return
        try:
            if self._pool is None or self._pool.pid != os.getpid():  # after fork the workers are gone
                self._pool = _Pool(self._tools, self.threads)
            self._pool.submit(steps, count)
        finally:
            self._busy.release()


class _Pool:
    def __init__(self, tools: Toolchain, threads: int) -> None:
        self.pid = os.getpid()
        self.threads = threads
        raw = np.zeros(16 * _CACHE_LINE // 8 + 8, np.int64)
        start = -raw.ctypes.data % _CACHE_LINE // 8
        self._control = raw[start : start + 16 * _CACHE_LINE // 8]
        self._address = self._control.ctypes.data
        self._submit = tools.function(Kernel("submit"), None, _L, _L, _L, _L, _L)
        work = tools.function(Kernel("work"), None, _L, _L, _L, _L)
        for tid in range(1, threads):
            args = (self._address, tid, threads, SPINS)
            threading.Thread(target=work, args=args, name=f"graphc-{tid}", daemon=True).start()
        atexit.register(self._close)

    def submit(self, steps: int, count: int) -> None:
        self._submit(self._address, steps, count, self.threads, SPINS)

    def _close(self) -> None:
        """Let the workers leave native code before the interpreter unmaps it."""
        if self.pid == os.getpid():
            self._control[_QUIT * _CACHE_LINE // 8] = 1
            self._submit(self._address, 0, 0, 1, 0)


_EXECUTORS: dict[tuple[Target, bool, int], Executor] = {}
_LOCK = threading.Lock()


def executor(tools: Toolchain, threads: int) -> Executor:
    """The process's executor for a target and a number of threads: models share it."""
    key = (tools.target, tools.cache.directory is not None, threads)
    with _LOCK:
        if key not in _EXECUTORS:
            _EXECUTORS[key] = Executor(tools, threads)
        return _EXECUTORS[key]


def _after_fork() -> None:
    global _LOCK
    _LOCK = threading.Lock()
    for e in _EXECUTORS.values():
        e._busy, e._pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

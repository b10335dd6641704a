"""Worker threads: they live in native code, take a whole program at a time, and never hold the GIL."""

from __future__ import annotations

import _thread
import atexit
import ctypes
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from graphc.backends.cpu.executor.program_block import Bind, Entry, Execute, Submit, Work
from graphc.backends.cpu.runtime import entry
from graphc.backends.cpu.sizes import CONTROL_BYTES, MASK_BYTES
from graphc.errors import GraphcWarning
from graphc.lower.aligned import aligned_empty
from graphc.lower.kernel import Kernel

SPINS = 2000  # pauses before a waiting thread sleeps in the kernel: about 50 µs
PATIENCE = 2.0  # seconds that the end of the process waits for a program that another thread runs
_L = ctypes.c_int64


class Executor:
    """Runs programs of one target with a given number of threads; programs that overlap in time run on one thread each."""

    def __init__(self, threads: int, addresses: Sequence[int]) -> None:
        """addresses: of `runtime_kernels(threads)`."""
        self.threads, self.entry = threads, entry.method(addresses[-1])
        self.bind = ctypes.PYFUNCTYPE(_L, _L, _L, _L)(addresses[-2])  # too short to let go of the interpreter
        self._control = np.zeros(1, np.int64)  # address of the pool's control block, while there is a pool
        self._facts = {"nth": threads, "spins": SPINS, "submit": addresses[1] if threads > 1 else 0}
        self._single = ctypes.CFUNCTYPE(None, _L, _L)(addresses[0])
        if threads == 1:
            self.run = self._single  # type: ignore[method-assign]  # without a look at the pool
        if threads > 1:
            self._submit = ctypes.CFUNCTYPE(_L, _L, _L, _L, _L, _L)(addresses[1])
            self._work = ctypes.CFUNCTYPE(None, _L, _L, _L, _L)(addresses[2])
        self._pool: Pool | None = None
        self._starting = threading.Lock()
        self._alone = threads == 1

    def facts(self, shares: bool) -> dict[str, int]:
        """What a program's entry must know of the executor (fields of its record). shares: will it use the pool?"""
        return self._facts | {"pool": self._control.ctypes.data if shares else 0}

    def start(self) -> None:
        """Have the pool that entries find."""
        if self._pool is None and not self._alone:
            self._start()

    def run(self, steps: int, count: int) -> None:
        """A table of `count` steps at address `steps`: see backends/cpu/executor/executor_driver.py."""
        pool = self._pool
        if pool is None and not self._alone:
            pool = self._start()
        if pool is None or not pool.submit(steps, count):
            self._single(steps, count)

    def _start(self) -> Pool | None:
        """The pool; None where the system gives no more threads, which is said once."""
        with self._starting:
            if self._pool is None and not self._alone:
                try:
                    pool = Pool(self._submit, self._work, self.threads)
                    self._control[0] = pool.address  # first: an interrupt must not leave a pool that entries don't find
                    self._pool = pool
                except RuntimeError as error:
                    self._alone = True
                    text = f"can't start {self.threads - 1} worker threads ({error}): inferences run on one thread each"
                    warnings.warn(text, GraphcWarning, stacklevel=2)
            return self._pool

    def after_fork(self) -> None:
        """In the child: the workers are gone, and whoever was starting them."""
        self._control[0] = 0
        self._pool, self._starting = None, threading.Lock()


class Pool:
    """Worker threads in native code. They hold the pool, so that its control block lives as long as they do.

    Raises RuntimeError where the system gives no more threads; those that have been started quit.
    """

    def __init__(self, submit: Callable[..., int], work: Callable[..., None], threads: int) -> None:
        self._pid, self._threads = os.getpid(), threads
        self._native_submit, self._native_work = submit, work
        self._started = 0  # workers
        self._left: list[int] = []  # those that have come back from native code
        self._control = aligned_empty(CONTROL_BYTES + MASK_BYTES * threads)
        self.address = self._control.ctypes.data
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        mask = sum(1 << cpu for cpu in cpus if cpu < 8 * MASK_BYTES).to_bytes(MASK_BYTES, "little")
        self._control[CONTROL_BYTES:][:MASK_BYTES] = np.frombuffer(mask, np.uint8)
        try:
            for worker in range(1, threads):
                _thread.start_new_thread(self._work, (worker,))  # a Thread would wait, and an interrupt might tear it
                self._started = worker
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def _work(self, worker: int) -> None:
        self._native_work(self.address, worker, self._threads, SPINS)
        self._left.append(worker)

    def submit(self, steps: int, count: int) -> bool:
        """Run a program; False, and nothing is done, where another thread uses the pool or it is closed."""
        return self._native_submit(self.address, steps, count, self._threads, SPINS) == 0

    def close(self) -> None:
        """Let the workers leave native code, before the interpreter unmaps it."""
        if self._pid != os.getpid():
            return
        deadline = time.monotonic() + PATIENCE
        while not self.submit(0, -1) and time.monotonic() < deadline:
            time.sleep(0.001)
        while len(self._left) < self._started and time.monotonic() < deadline:
            time.sleep(0.0001)


def runtime_kernels(threads: int) -> tuple[Kernel, ...]:
    """The native functions of an executor."""
    return (Execute(), Submit(), Work(), Bind(), Entry()) if threads > 1 else (Execute(), Bind(), Entry())

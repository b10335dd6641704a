"""A kernel that runs on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from time import perf_counter

import numpy as np

from graphc.backends.cpu.hardware import cpu_count
from graphc.backends.cpu.target import detect
from graphc.backends.cuda.emulator.faults import KernelFault, Range, Report
from graphc.backends.cuda.emulator.host import host, require_host
from graphc.backends.cuda.emulator.object_code import ObjectCode, compile_kernel, version_on
from graphc.backends.cuda.emulator.records import (
    B_ARGUMENT,
    B_BLOCKS,
    B_RANGE_COUNT,
    B_RANGES,
    B_SHADOW,
    C_SIZE,
    MOST_SHARED,
    MOST_THREADS,
    R_SIZE,
    WARP,
    WORD,
)
from graphc.backends.cuda.emulator.retarget import ENTRY
from graphc.backends.cuda.emulator.services import link, services
from graphc.backends.cuda.emulator.worker import Worker, worker
from graphc.errors import UnsupportedError

WORTH_A_THREAD = 400e-6  # seconds of work that other threads help with
_cpus = lru_cache(maxsize=1)(cpu_count)  # which reads files
ARGUMENT, BLOCKS, SHADOW, RANGES, RANGE_COUNT = (
    w // WORD for w in (B_ARGUMENT, B_BLOCKS, B_SHADOW, B_RANGES, B_RANGE_COUNT)
)


class EmulatedKernel:
    """A CUDA kernel as machine code of the host, and what a launch needs.

    A fault leaves memory as the kernel has left it; the next launch is not affected.
    """

    def __init__(
        self,
        modules: Sequence[str],
        entry: str,
        threads: int,
        shared: int,
        name: str,
        check: bool = False,
        together: bool = False,
    ) -> None:
        """modules: NVVM IR as numba-cuda hands it to libNVVM; the first defines `entry`, others have device functions.

        entry    symbol of the kernel. Its one parameter is an int64, the address of its argument block. (One with other
                 parameters takes them from there, a word each.)
        threads  of a block
        shared   bytes of dynamic shared memory
        name     for errors
        together  all blocks run at once, and may wait for each other
        check    watch accesses to memory: races, bounds, alignment, shared memory that nobody has written

        Raises UnsupportedError for what is not emulated.
        """
        require_host()
        self._set_up(compile_kernel(modules, entry, check, host()), threads, shared, name, together)

    @classmethod
    def from_code(cls, code: bytes, threads: int, shared: int, name: str, together: bool = False) -> EmulatedKernel:
        """Of the bytes that another one gave as `code`, which neither LLVM nor Numba has to see again.

        Raises ValueError for bytes of another version of the emulator, or for another processor.
        """
        require_host()
        made = cls.__new__(cls)
        made._set_up(ObjectCode.from_bytes(code, version_on(detect())), threads, shared, name, together)
        return made

    def _set_up(self, made: ObjectCode, threads: int, shared: int, name: str, together: bool) -> None:
        if not 0 < threads <= MOST_THREADS:
            raise ValueError(f"{name}: {threads} threads in a block; 1 to {MOST_THREADS} are possible")
        self.name, self.threads, self.shared, self.check = name, threads, shared, made.check
        self.together = together
        self._made = made
        self._shared_bytes = made.static + shared
        if self._shared_bytes > MOST_SHARED:
            raise UnsupportedError(f"{name}: {self._shared_bytes} bytes of shared memory; a block has {MOST_SHARED}")
        self._services = services()
        self._entry = link(ENTRY, made.code)
        self._stacks = threads * made.stack
        self._cells = (self._shared_bytes >> made.grain) + 1
        # in the order of the record of a worker, from B_ENTRY on
        words = [self._entry, 0, threads, 0, shared, self._shared_bytes, made.stack, made.check, made.grain, 0, 0, 0]
        words += [together, 0]
        self._launch = np.array(words, np.int64)

    @property
    def code(self) -> bytes:
        """For `from_code`."""
        return self._made.to_bytes()

    def launch(self, blocks: int, argument: int, memory: Sequence[Range] = ()) -> None:
        """Run a grid of one dimension. memory: the global memory that it may touch, for the checking mode.

        Raises KernelFault.
        """
        if blocks <= 0:
            return
        launch = self._launch.copy()
        launch[ARGUMENT], launch[BLOCKS] = argument, blocks
        if self.together:
            self._together(launch, blocks, memory)
            return
        addresses, run, _ = self._services
        with worker(addresses) as first:
            if self.check:
                report = self._checked(first, launch, blocks, memory)
            else:
                first.prepare(launch, self._stacks)
                start = perf_counter()
                run(first.record, 0, 1, 1)
                report = first.report()
                if blocks > 1 and report is None:
                    report = self._others(first, launch, blocks, perf_counter() - start)
            self._raise(report, first, memory)

    def _raise(self, report: Report | None, by: Worker, memory: Sequence[Range]) -> None:
        if report is not None:
            shared = range(by.shared, by.shared + self._shared_bytes)
            raise KernelFault(self.name, report, memory, shared)

    def _others(self, first: Worker, launch: np.ndarray, blocks: int, seconds: float) -> Report | None:
        """The blocks behind the first one, which took so long."""
        addresses, run, _ = self._services
        step = min(_cpus(), blocks - 1) if seconds * (blocks - 1) > WORTH_A_THREAD else 1
        if step == 1:
            run(first.record, 1, blocks, 1)
            return first.report()
        reports: list[Report | None] = []

        def share(number: int) -> None:
            with worker(addresses) as mine:
                mine.prepare(launch, self._stacks)
                run(mine.record, 1 + number, blocks, step)
                reports.append(mine.report())

        threads = [threading.Thread(target=share, args=(i,)) for i in range(1, step)]
        for t in threads:
            t.start()
        run(first.record, 1, blocks, step)
        reports.append(first.report())
        for t in threads:
            t.join()
        return min((r for r in reports if r is not None), key=lambda r: r.block, default=None)

    def _checked(self, only: Worker, launch: np.ndarray, blocks: int, memory: Sequence[Range]) -> Report | None:
        """All blocks by one worker, one after another, so that what is found does not hang on chance."""
        held = self._watched([launch], memory)
        only.prepare(launch, self._stacks)
        self._services.run_blocks(only.record, 0, blocks, 1)
        del held
        return only.report()

    def _watched(self, launches: Sequence[np.ndarray], memory: Sequence[Range]) -> list[np.ndarray]:
        """Shadow memory, noted in the words of the workers that run the blocks; gives what must live as long as they run."""
        cells = [-(-(r.end - r.first) // r.item) if r.writable else 0 for r in memory]
        shadows = [np.zeros(n * C_SIZE // WORD + 1, np.int64) for n in cells]
        ranges = np.zeros((len(memory) + 1, R_SIZE // WORD), np.int64)
        for row, r, shadow in zip(ranges, memory, shadows):
            row[:] = r.first, r.end, shadow.ctypes.data, r.item, r.writable
        shared = [np.zeros(self._cells * C_SIZE // WORD, np.int64) for _ in launches]
        for launch, mine in zip(launches, shared):
            launch[SHADOW], launch[RANGES], launch[RANGE_COUNT] = mine.ctypes.data, ranges.ctypes.data, len(memory)
        return [ranges, *shadows, *shared]

    def _together(self, launch: np.ndarray, blocks: int, memory: Sequence[Range]) -> None:
        """All blocks at once, each by a worker of its own, in this thread, in an order that is always the same."""
        threads = -(-self.threads // WARP) * WARP
        workers = [Worker(self._services.addresses, threads) for _ in range(blocks)]
        launches = [launch.copy() for _ in workers]
        held = self._watched(launches, memory) if self.check else []
        for one, words in zip(workers, launches):
            one.prepare(words, self._stacks)
        records = np.array([one.record for one in workers], np.int64)
        self._services.run_together(records.ctypes.data, blocks)
        del held
        for one in workers:
            self._raise(one.report(), one, memory)

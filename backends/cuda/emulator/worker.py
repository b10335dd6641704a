"""Memory of an emulated multiprocessor. A worker runs one block at a time."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from graphc.backends.cuda.emulator.faults import Report
from graphc.backends.cuda.emulator.records import (
    B_BLOCK,
    B_FAULT,
    B_FAULT_ADDRESS,
    B_FAULT_LINE,
    B_FAULT_OTHER,
    B_FAULT_THREAD,
    B_FIBERS,
    B_SCRATCH,
    B_SHARED,
    B_SIZE,
    B_STACKS,
    F_BLOCK,
    F_LANE,
    F_SERVICES,
    F_SIZE,
    F_THREAD,
    F_WARP,
    LAUNCH,
    MOST_THREADS,
    SCRATCH,
    WARP,
    WORD,
)

# PTX holds addresses of shared memory in 32 bits, descriptors of matrices the low 18 bits of them
WINDOW = 1 << 18
MAP_32BIT = 0x40
LINE = 64  # bytes of the cache
_STATUS = [w // WORD for w in (B_FAULT, B_FAULT_THREAD, B_BLOCK, B_FAULT_LINE, B_FAULT_ADDRESS, B_FAULT_OTHER)]


class Worker:
    """record: its address, as the runtime wants it; shared: the address of its shared memory. threads: of its blocks, at most."""

    def __init__(self, services: Sequence[int], threads: int = MOST_THREADS) -> None:
        self._threads = threads
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._window = mmap.mmap(-1, 2 * WINDOW, flags=flags | MAP_32BIT)
        self.shared = _aligned(_address(self._window), WINDOW)
        self._words = np.zeros(B_SIZE // WORD, np.int64)
        self._fibers = np.zeros((threads * F_SIZE + LINE) // WORD, np.int64)
        self._scratch = np.zeros((SCRATCH + LINE) // WORD, np.int64)
        self._stacks: mmap.mmap | None = None
        self.record: int = self._words.ctypes.data
        first = _aligned(self._fibers.ctypes.data, LINE)
        self._words[B_SHARED // WORD] = self.shared
        self._words[B_FIBERS // WORD] = first
        self._words[B_SCRATCH // WORD] = _aligned(self._scratch.ctypes.data, LINE)
        self._number(first - self._fibers.ctypes.data, services)

    def _number(self, offset: int, services: Sequence[int]) -> None:
        """What never changes in the records of fibers, which begin `offset` bytes into their memory."""
        words = self._fibers[offset // WORD :][: self._threads * F_SIZE // WORD].reshape(self._threads, -1)
        threads = np.arange(self._threads)
        words[:, F_BLOCK // WORD] = self.record
        words[:, F_THREAD // WORD] = threads
        words[:, F_WARP // WORD] = threads // WARP
        words[:, F_LANE // WORD] = threads % WARP
        words[:, F_SERVICES // WORD :][:, : len(services)] = services

    def prepare(self, launch: np.ndarray, stacks: int) -> None:
        """For a launch: its words; bytes of stacks that it wants."""
        if self._stacks is None or len(self._stacks) < stacks + mmap.PAGESIZE:
            self._stacks = mmap.mmap(
                -1, max(stacks + mmap.PAGESIZE, 1 << 20), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            )
            self._words[B_STACKS // WORD] = _aligned(_address(self._stacks), mmap.PAGESIZE)
        self._words[:LAUNCH] = launch

    def report(self) -> Report | None:
        """What went wrong, if anything did."""
        if not self._words[B_FAULT // WORD]:
            return None
        return Report(*self._words[_STATUS].tolist())


def _address(memory: mmap.mmap) -> int:
    address: int = np.frombuffer(memory, np.uint8).ctypes.data
    return address


def _aligned(address: int, alignment: int) -> int:
    return -(-address // alignment) * alignment


_idle: deque[Worker] = deque()


@contextmanager
def worker(services: Sequence[int]) -> Iterator[Worker]:
    """One that nobody else has until the end."""
    try:
        found = _idle.pop()
    except IndexError:
        found = Worker(services)
    try:
        yield found
    finally:
        _idle.append(found)

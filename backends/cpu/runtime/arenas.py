"""Memory for the values inside a model's runs: an arena for each run at a time, whichever plan it runs.

A program expects nothing of its arena: halos are cleared by a step before the first producer, in every run. So plans of one
model take turns in the same memory, which is as large as the largest of them wants.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from graphc.lower.aligned import aligned_empty
from graphc.types import MaybeNone

if TYPE_CHECKING:
    from graphc.backends.cpu.runtime.run import RunContext

IDLE = 10.0  # seconds after which an arena beyond the first goes that no run has taken


class Arena:
    """Memory of one run at a time. contexts: programs with addresses in it, by their runner's number. taken: by a run
    since somebody looked for idle ones."""

    __slots__ = ("__weakref__", "address", "contexts", "memory", "taken")

    def __init__(self, nbytes: int) -> None:
        self.contexts: dict[int, RunContext] = {}
        self.taken = True
        self.grow(nbytes)

    def grow(self, nbytes: int) -> None:
        """Other memory: programs have to be told its address again."""
        self.contexts.clear()
        self.memory: np.ndarray | MaybeNone = None  # first: old and new need not be there at once
        self.memory = aligned_empty(max(nbytes, 1))
        self.address = self.memory.ctypes.data


class Arenas:
    """The arenas of one model. free: those that no run uses; who takes one from its end gives it back by `append`, and calls
    `trim` when it is not alone there."""

    def __init__(self) -> None:
        self.free: list[Arena] = []
        self.nbytes = 0  # of the largest plan
        # A list: threads add to it and copy it without a lock, which a fork could leave held.
        self._every: list[ref[Arena]] = []
        self._plans = 0
        self._next_look = 0.0

    def register(self, nbytes: int) -> int:
        """A number for a runner that needs so many bytes."""
        self.nbytes = max(self.nbytes, nbytes)
        self._plans += 1
        return self._plans

    def enlarge(self, arena: Arena, nbytes: int) -> None:
        """A run in this arena needs so many bytes, and so will others. Growing sizes are met ahead, so that not each of them makes
        a new arena. Raises MemoryError, and expects no more of later runs then."""
        before = self.nbytes
        if nbytes > self.nbytes:
            self.nbytes = max(nbytes, self.nbytes + self.nbytes // 2)
        try:
            arena.grow(self.nbytes)
        except MemoryError:
            self.nbytes = before
            raise

    def forget(self, number: int) -> None:
        """That runner is gone."""
        for arena in filter(None, [r() for r in list(self._every)]):
            arena.contexts.pop(number, None)

    def take(self) -> Arena:
        try:
            return self.free.pop()
        except IndexError:
            arena = Arena(self.nbytes)
            self._every.append(ref(arena, self._every.remove))
            return arena

    def trim(self) -> None:
        """Let go of arenas that more threads needed once."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + IDLE
        for arena in self.free[:-1]:
            if arena.taken:
                arena.taken = False
                continue
            with suppress(ValueError):  # a run has just taken it
                self.free.remove(arena)

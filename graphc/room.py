"""Memory of one session for its states, those that grow in place among them (graphc/growing.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from graphc.signature import Growth

POSITIONS = 64  # a capacity is a multiple of so many at first; then it doubles


def capacity_for(length: int) -> int:
    """The least for states of that length: one position stays free."""
    return (length // POSITIONS + 1) * POSITIONS


class Memory(Protocol):
    """Where states are: arrays with a shape and a dtype, which `np.asarray` brings to the host."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """A new array. Raises OutOfMemoryError."""
        ...

    def start(self, a: Any, axis: int, length: int) -> Any:
        """The first positions along an axis: a view."""
        ...

    def write(self, a: Any, axis: int, value: Any) -> None:
        """The first positions along an axis become `value`, an array of the host or of this memory."""
        ...


class HostMemory:
    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.empty(shape, dtype)

    def start(self, a: np.ndarray, axis: int, length: int) -> np.ndarray:
        return a[(slice(None),) * axis + (slice(length),)]

    def write(self, a: np.ndarray, axis: int, value: Any) -> None:
        self.start(a, axis, value.shape[axis])[...] = value


HOST = HostMemory()


class Room:
    """States in arrays of more positions than they have, and how many that is. Positions behind these are scratch.

    arrays   [.., capacity, ..]
    lengths  int64; never changed, but replaced
    mine     may positions behind the states be written? Not where a fork may read them
    least    positions that all states have had since one was truncated
    """

    def __init__(self, memory: Memory, growing: Sequence[Growth], values: Sequence[Any], capacity: int) -> None:
        """values: copied here."""
        self.growing, self.capacity, self.mine = growing, capacity, True
        self._memory = memory
        self.lengths = np.array([a.shape[g.axis] for g, a in zip(growing, values)], np.int64)
        self.arrays = [memory.empty(_with(g, a.shape, capacity), a.dtype) for g, a in zip(growing, values)]
        self.least = int(self.lengths.min())
        self._read = [0] * len(growing)  # positions that forks may read
        for g, a, value in zip(growing, self.arrays, values):
            memory.write(a, g.axis, value)

    @property
    def values(self) -> list[Any]:
        """The states: views."""
        lengths = self.lengths.tolist()
        return [self._memory.start(a, g.axis, n) for g, a, n in zip(self.growing, self.arrays, lengths)]

    def with_capacity(self, capacity: int) -> Room:
        return Room(self._memory, self.growing, self.values, capacity)

    def stand_ins(self, capacity: int) -> list[np.ndarray]:
        """Arrays of the shapes that those of another capacity have, which take no memory. Raises ValueError."""
        shapes = [_with(g, a.shape, capacity) for g, a in zip(self.growing, self.arrays)]
        return [np.broadcast_to(np.zeros((), a.dtype), shape) for a, shape in zip(self.arrays, shapes)]

    def share(self) -> None:
        """A fork reads what is there now."""
        self._read = self.lengths.tolist()

    def truncate(self, k: int, length: int) -> None:
        """State k loses what is behind its first positions."""
        self.lengths = self.lengths.copy()
        self.lengths[k] = length
        self.least = min(self.least, length)
        self.mine = self.mine and length >= self._read[k]


def _with(g: Growth, shape: tuple[int, ...], capacity: int) -> tuple[int, ...]:
    return (*shape[: g.axis], capacity, *shape[g.axis + 1 :])

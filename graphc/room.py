"""Memory of one session for states that grow in place (graphc/growing.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.growing import Growth

POSITIONS = 64  # a capacity is a multiple of so many at first; then it doubles


def capacity_for(length: int) -> int:
    """The least for states of that length: one position stays free."""
    return (length // POSITIONS + 1) * POSITIONS


class Room:
    """States in arrays of more positions than they have, and how many that is. Positions behind these are scratch.

    arrays   [.., capacity, ..]
    lengths  int64; never changed, but replaced
    mine     may positions behind the states be written? Not where a fork may read them
    least    positions that all states have had since one was truncated
    """

    def __init__(self, growing: Sequence[Growth], values: Sequence[np.ndarray], capacity: int) -> None:
        """values: copied here."""
        self.growing, self.capacity, self.mine = growing, capacity, True
        self.lengths = np.array([a.shape[g.axis] for g, a in zip(growing, values)], np.int64)
        self.arrays = [np.empty(_with(g, a.shape, capacity), a.dtype) for g, a in zip(growing, values)]
        self.least = int(self.lengths.min())
        self._read = [0] * len(growing)  # positions that forks may read
        for there, value in zip(self.values, values):
            there[...] = value

    @property
    def values(self) -> list[np.ndarray]:
        """The states: views."""
        lengths = self.lengths.tolist()
        return [a[(slice(None),) * g.axis + (slice(n),)] for g, a, n in zip(self.growing, self.arrays, lengths)]

    def with_capacity(self, capacity: int) -> Room:
        return Room(self.growing, self.values, capacity)

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

"""Memory of the device and page-locked memory, both in the host's: what lies where, and what was there before."""

from __future__ import annotations

import ctypes
from bisect import bisect_right, insort
from dataclasses import dataclass

import numpy as np

from driver_double.abi import Refused

ALIGNMENT = 512
NEW, GONE = 0xFF, 0xFE  # the bytes of what nobody has written, and of what has been freed: NaN in every float format
KEPT = 1 << 28  # bytes of freed memory that is not used again


@dataclass(eq=False)
class Allocation:
    """kind: 'device', 'pool', 'pinned'. state: 'coming' until a stream has made it, 'live', 'gone'. freed: by the caller."""

    first: int
    nbytes: int
    kind: str
    device: int
    number: int
    memory: np.ndarray
    state: str = "live"
    freed: bool = False

    @property
    def end(self) -> int:
        return self.first + self.nbytes

    def __str__(self) -> str:
        return f"{self.kind} memory of {self.nbytes} bytes at {self.first:#x} ({'freed' if self.freed else self.state})"


class Memory:
    """limit: bytes of a device."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._count = 0
        self._starts: list[int] = []
        self._at: dict[int, Allocation] = {}
        self._gone: list[Allocation] = []

    def used(self, *kinds: str) -> int:
        return sum(a.nbytes for a in self._at.values() if a.kind in kinds and a.state != "gone")

    def allocate(self, nbytes: int, kind: str, device: int, state: str = "live") -> Allocation:
        if nbytes == 0:
            raise Refused("INVALID_VALUE", "an allocation of no bytes")
        if kind != "pinned" and self.used("device", "pool") + nbytes > self.limit:
            raise Refused("OUT_OF_MEMORY", f"{nbytes} bytes")
        memory = np.full(nbytes + 2 * ALIGNMENT, NEW, np.uint8)  # also behind the end
        first = -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT
        self._count += 1
        made = Allocation(first, nbytes, kind, device, self._count, memory, state)
        self._at[first] = made
        insort(self._starts, first)
        return made

    def free(self, a: Allocation) -> None:
        a.state, a.freed = "gone", True
        a.memory[...] = GONE
        self._gone.append(a)
        while sum(g.nbytes for g in self._gone) > KEPT:
            old = self._gone.pop(0)
            del self._at[old.first]
            self._starts.remove(old.first)

    def find(self, address: int) -> Allocation | None:
        """What holds the address, or has held it."""
        i = bisect_right(self._starts, address)
        found = self._at[self._starts[i - 1]] if i else None
        return found if found is not None and address < found.end else None

    def started_at(self, address: int, *kinds: str) -> Allocation:
        found = self._at.get(address)
        if found is None or found.kind not in kinds:
            raise Refused("INVALID_VALUE", f"no {' or '.join(kinds)} memory begins at {address:#x}")
        if found.freed:
            raise Refused("INVALID_VALUE", f"freed twice: {found}")
        return found

    def live(self) -> list[Allocation]:
        return [a for a in self._at.values() if a.state != "gone"]

    def range_of(self, address: int, nbytes: int) -> Allocation | None:
        """What holds these bytes, None for pageable memory. Raises Refused where it does not hold all, or is gone."""
        found = self.find(address)
        if found is None:
            last = self.find(address + nbytes - 1)
            if last is not None:
                raise Refused("INVALID_VALUE", f"{nbytes} bytes at {address:#x} reach into {last}")
            return None
        if found.freed:
            raise Refused("INVALID_VALUE", f"{address:#x} lies in {found}")
        if address + nbytes > found.end:
            raise Refused("INVALID_VALUE", f"{nbytes} bytes at {address:#x} reach beyond {found}")
        return found


def read_words(address: int, count: int) -> list[int]:
    return list((ctypes.c_int64 * count).from_address(address))

"""What one run at a time works in: a stream, an arena on the device, the plans' tables that point into it."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from graphc.backends.cuda.runtime.device import Device, DeviceMemory, Mark, Stream
from graphc.lower.storage import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphc.backends.cuda.runtime.context import Context

IDLE = 10.0  # seconds after which a workspace beyond the first goes that no run has taken
APART = 256  # bytes: constants begin at multiples, as the driver's own memory does


@dataclass(frozen=True, eq=False)
class Constant:
    """address: on the device, in `memory`. place: on the host, whose memory nothing else gets while this is there."""

    memory: DeviceMemory
    address: int
    place: Place


class Workspace:
    """contexts: of plans, by their number. stream: after each run it is behind the run's work, whoever's stream that was given to."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.stream: Stream = device.stream()
        self.contexts: dict[int, Context] = {}
        self._held: deque[tuple[Mark, Any]] = deque()
        self.busy = False  # with the last run's work
        self.used = time.monotonic()
        self.arena = DeviceMemory(device, nbytes)

    def __del__(self) -> None:
        with suppress(Exception):  # a kernel has failed, or the process ends
            self.stream.wait()  # before memory goes that work uses, also that of a run that failed

    def settle(self) -> None:
        """Until the work of the last run is done."""
        if self.busy:
            self.stream.wait()
            self.busy = False
            self._held.clear()

    def hold(self, arrays: Sequence[Any]) -> None:
        """Callers' arrays, until the last run's work is done."""
        while self._held and self._held[0][0].reached():
            self._held.popleft()
        self._held.append((self.stream.mark(), arrays))

    def grow(self, device: Device, nbytes: int) -> None:
        """Another arena: tables have to be told its address again."""
        self.settle()
        self.contexts.clear()
        del self.arena  # first: old and new need not be there at once
        self.arena = DeviceMemory(device, nbytes)


class Workspaces:
    """Those of one model, on one device, and its constants there."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._free: list[Workspace] = []
        self._lock = threading.RLock()  # a garbage collection may end plans while it is held
        self._plans = 0
        self._constants: WeakValueDictionary[tuple[int, int], Constant] = WeakValueDictionary()

    def number(self) -> int:
        """For another plan."""
        with self._lock:
            self._plans += 1
            return self._plans

    def take(self, nbytes: int) -> Workspace:
        """One that nobody else uses, with so large an arena. Who took it gives it back after a run that ended well."""
        with self._lock:
            found = self._free.pop() if self._free else None
        if found is None:
            return Workspace(self.device, nbytes)
        if found.arena.nbytes < nbytes:
            found.grow(self.device, nbytes)
        return found

    def give_back(self, workspace: Workspace) -> None:
        now = workspace.used = time.monotonic()
        with self._lock:
            self._free.append(workspace)
            kept = [w for w in self._free[:-1] if now - w.used < IDLE]
            gone, self._free = self._free[: -1 - len(kept)], [*kept, workspace]
        del gone  # which frees memory, without the lock

    def forget(self, number: int) -> None:
        """That plan is gone."""
        with self._lock:
            for workspace in self._free:
                if number in workspace.contexts:
                    with suppress(Exception):  # as above
                        workspace.settle()
                    del workspace.contexts[number]

    def constants(self, places: Sequence[Place], nbytes: Sequence[int]) -> list[Constant]:
        """Each constant of so many bytes, which is brought to the device once."""
        keys = [(place.address, n) for place, n in zip(places, nbytes)]
        with self._lock:
            found = {key: self._constants.get(key) for key in keys}
            new = {key: place for key, place in zip(keys, places) if found[key] is None}
            made = self._uploaded(new)
            self._constants.update(made)
            return [found[key] or made[key] for key in keys]

    def _uploaded(self, places: Mapping[tuple[int, int], Place]) -> dict[tuple[int, int], Constant]:
        if not places:
            return {}
        starts, total = {}, 0
        for key in places:
            starts[key], total = total, total + -(-key[1] // APART) * APART
        memory, stream = DeviceMemory(self.device, total), self.device.stream()
        for (source, nbytes), start in starts.items():
            self.device.copy(memory.address + start, source, nbytes, stream)
        stream.wait()
        return {key: Constant(memory, memory.address + start, places[key]) for key, start in starts.items()}

"""What the double's functions share: devices, contexts, handles, and what went wrong."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cuda.bindings.driver import CUresult

from driver_double.abi import Refused
from driver_double.memory import Memory
from driver_double.work import Queue

T = TypeVar("T")
_numbers = itertools.count(0x7D0000000000, 0x40)  # no two handles of a process are the same


@dataclass(eq=False)
class Context:
    """The primary one of a device."""

    device: int
    handle: int
    retained: int = 0


@dataclass(eq=False)
class Handle:
    """What the caller knows by a number: an event, a module, … Kinds are classes that inherit it."""

    context: Context


class State:
    """devices: how many. arch: of each. version: of CUDA, 13000 for 13.0. memory: bytes of each device. order: see work.py.
    watch: kernels may touch nothing but memory that is there (slow)."""

    def __init__(
        self,
        devices: int = 1,
        arch: tuple[int, int] = (9, 0),
        version: int = 13_000,
        memory: int = 1 << 30,
        order: str = "late",
        watch: bool = False,
    ) -> None:
        self.devices, self.arch, self.version, self.watch = devices, arch, version, watch
        self.lock = threading.RLock()
        self._first = next(_numbers)
        self.contexts = [Context(n, next(_numbers)) for n in range(devices)]
        self.memory = Memory(memory)
        self.queue = Queue(order)
        self.calls: Counter[str] = Counter()
        self.refused: list[str] = []  # what the driver has answered with errors
        self.broken: list[BaseException] = []  # what it may not be asked
        self.refuse: dict[str, list[str]] = {}  # function -> statuses of its next calls
        self.lost: str | None = None  # the status of every call, after a kernel has failed
        self.quiet = False  # which the test knows
        self.launches_fail: list[str] = []  # statuses of kernels that are about to run
        self.launched: Counter[str] = Counter()  # kernels
        self.takes: Callable[[str], float] = lambda kernel: 0.0  # seconds of a kernel, beside those of any work
        self.started = False
        self._texts: dict[tuple[int, bool], Any] = {}
        self._handles: dict[int, Handle] = {}
        self._gone: dict[int, str] = {}
        self._threads = threading.local()

    # --- contexts ------------------------------------------------------------------------------------------------
    @property
    def stack(self) -> list[Context]:
        """The calling thread's contexts."""
        if not hasattr(self._threads, "stack"):
            self._threads.stack = []
        found: list[Context] = self._threads.stack
        return found

    def current(self) -> Context:
        if not self.stack:
            raise Refused("INVALID_CONTEXT", "none is current in this thread")
        return self.stack[-1]

    def context_of(self, number: int) -> Context:
        for c in self.contexts:
            if c.handle == number and c.retained:
                return c
        raise Refused("DEINITIALIZED" if 0 < number < self._first else "INVALID_CONTEXT", f"{number:#x} is none")

    # --- handles -------------------------------------------------------------------------------------------------
    def add(self, made: Handle) -> int:
        number = next(_numbers)
        self._handles[number] = made
        return number

    def get(self, kind: type[T], number: int, anywhere: bool = False) -> T:
        """anywhere: its context need not be the current one."""
        found: Any = self._handles.get(number)
        if not isinstance(found, kind):
            gone = self._gone.get(number)
            raise Refused(
                "INVALID_HANDLE", f"{number:#x} is {f'a destroyed {gone}' if gone else f'no {kind.__name__}'}"
            )
        if not anywhere and found.context is not self.current():
            raise Refused("INVALID_CONTEXT", f"{kind.__name__} {number:#x} belongs to another context")
        return found

    def drop(self, kind: type[T], number: int) -> T:
        found = self.get(kind, number, anywhere=True)
        del self._handles[number]
        self._gone[number] = kind.__name__
        return found

    def all_of(self, kind: type[T]) -> list[T]:
        return [h for h in self._handles.values() if isinstance(h, kind)]

    def refusal(self, name: str, refused: Refused) -> None:
        answer = refused.status.name.removeprefix("CUDA_ERROR_")
        if answer == "NOT_READY" or answer == "DEINITIALIZED" or (self.quiet and answer == self.lost):
            return  # not yet; of objects that an earlier double has made; known
        self.refused.append(f"{name}: {refused}")

    # --- failures ------------------------------------------------------------------------------------------------
    def lose(self, status: str) -> None:
        """The context, for good."""
        self.lost = self.lost or status
        self.queue.abandon()

    def text_of(self, status: int, short: bool = False) -> ctypes.Array[ctypes.c_char]:
        """What is said of it, as long as this lives."""
        name = CUresult(status).name
        said = name if short else f"the double says {name}"
        if name == "CUDA_ERROR_UNKNOWN" and self.broken and not short:
            said += f": {self.broken[-1]}"
        self._texts[status, short] = ctypes.create_string_buffer(said.encode())
        return self._texts[status, short]

    def expect(self, *statuses: str) -> None:
        """The test has seen refusals of just these kinds. Of a failed kernel there may be more."""
        found = {r.partition(": ")[2].partition(":")[0].removeprefix("CUDA_ERROR_") for r in self.refused}
        assert found == set(statuses), self.refused
        self.refused.clear()
        self.quiet = self.lost is not None

    def left(self) -> dict[str, int]:
        """What was made and is still there: memory in bytes, handles but of what lives as long as the process."""
        found = Counter(type(h).__name__ for h in self._handles.values())
        for kind in ("Module", "Function", "MemPool"):
            del found[kind]
        return {
            "device": self.memory.used("device"), "pool": self.memory.used("pool"), "pinned": self.memory.used("pinned")
        } | found  # fmt: skip

    def verify(self) -> None:
        """At the end of a test."""
        if self.broken:
            raise self.broken[0]
        assert not self.refused, self.refused
        assert not self.stack, "contexts are left current"
        left = {k: n for k, n in self.left().items() if n}
        assert not left or self.lost, f"left: {left}"

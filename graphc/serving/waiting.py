"""Requests that wait to be run: by kind, the oldest first, no more than a bound."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.errors import GraphcError


@dataclass(eq=False)
class Request:
    """feeds: of `rows` rows; key: those of one are run together; until: when it is run with fewer than could be (monotonic
    clock); future: of its results."""

    feeds: Mapping[str, np.ndarray]
    rows: int
    key: tuple
    until: float = 0.0
    future: Future = field(default_factory=Future)


class Room:
    """So many requests may wait; who comes later is admitted in order."""

    def __init__(self, places: int) -> None:
        self._free, self._coming = places, deque[Future]()
        self._lock = threading.RLock()  # the collector may close a batcher on the thread that is here
        self._error: Exception | None = None

    def enter(self) -> Future[None]:
        """Done as soon as there is a place; one that was cancelled before takes none."""
        admitted: Future[None] = Future()
        with self._lock:
            if self._error is not None:
                admitted.set_exception(self._error)
            elif self._free:
                self._free -= 1
                admitted.set_result(None)
            else:
                self._coming.append(admitted)
        return admitted

    def leave(self, places: int) -> None:
        while places:
            with self._lock:
                admitted = self._coming.popleft() if self._coming else None
                if admitted is None:
                    self._free += places
                    return
            if admitted.set_running_or_notify_cancel():
                admitted.set_result(None)
                places -= 1

    def close(self, error: Exception) -> None:
        """Nobody is admitted any more, those that wait neither."""
        with self._lock:
            self._error, coming, self._coming = error, self._coming, deque()
        for admitted in coming:
            if admitted.set_running_or_notify_cancel():
                admitted.set_exception(error)


class Waiting:
    """Requests between those that give them and the one thread that takes them."""

    def __init__(self, max_rows: int, max_delay: float, places: int) -> None:
        self._max_rows, self._max_delay = max_rows, max_delay
        self._kinds: dict[tuple, deque[Request]] = {}
        self._rows: dict[tuple, int] = {}
        self._changed = threading.Condition()
        self._closed = False
        self.room = Room(places)

    def put(self, request: Request) -> None:
        """Of one that has been admitted. Raises GraphcError once closed."""
        with self._changed:
            if self._closed:
                raise closed()
            request.until = time.monotonic() + self._max_delay
            kind = self._kinds.setdefault(request.key, deque())
            kind.append(request)
            rows = self._rows[request.key] = self._rows.get(request.key, 0) + request.rows
            if len(kind) == 1 or rows >= self._max_rows:  # else the one that waits for the first is right to wait on
                self._changed.notify()

    def take(self) -> list[Request] | None:
        """The next requests to run together, once they are as many as may be or the first has waited long enough; None when
        closed and empty."""
        with self._changed:
            while True:
                key, wait = self._next()
                if key is not None and wait <= 0:
                    return self._gathered(key)
                if key is None and self._closed:
                    return None
                self._changed.wait(wait if key is not None else None)

    def _next(self) -> tuple[tuple | None, float]:
        """The kind whose turn it is, and for how many seconds it may still wait."""
        full = [key for key, rows in self._rows.items() if rows >= self._max_rows]
        key = min(full or self._kinds, key=lambda k: self._kinds[k][0].until, default=None)
        if key is None:
            return None, 0.0
        return key, 0.0 if full or self._closed else self._kinds[key][0].until - time.monotonic()

    def _gathered(self, key: tuple) -> list[Request]:
        kind, rows = self._kinds[key], 0
        gathered: list[Request] = []
        while kind and (not gathered or rows + kind[0].rows <= self._max_rows):
            gathered.append(kind.popleft())
            rows += gathered[-1].rows
        self._rows[key] -= rows
        if not kind:
            del self._kinds[key], self._rows[key]
        return gathered

    def close(self, cancel: bool) -> None:
        """Take no more; cancel: those that wait are cancelled, else they are run."""
        with self._changed:
            self._closed = True
            dropped = [r for kind in self._kinds.values() for r in kind] if cancel else []
            if cancel:
                self._kinds.clear()
                self._rows.clear()
            self._changed.notify_all()
        self.room.close(closed())
        for request in dropped:
            request.future.cancel()


def closed() -> GraphcError:
    return GraphcError("the batcher is closed", hint="open another: model.batcher()")


def serve(waiting: Waiting, run: Callable[[list[Request]], Any]) -> None:
    """Run what is waiting until it is closed: the body of the thread."""
    while (gathered := waiting.take()) is not None:
        waiting.room.leave(len(gathered))
        alive = [r for r in gathered if r.future.set_running_or_notify_cancel()]
        if alive:
            run(alive)
        del gathered, alive  # their arrays, while it waits for others

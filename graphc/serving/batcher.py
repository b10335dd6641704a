"""Dynamic batching: callers in threads and coroutines of one process give rows, which run together."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import GraphcError, InputError
from graphc.serving.rows import Rows
from graphc.serving.waiting import Request, Waiting, serve

if TYPE_CHECKING:
    from graphc.arguments import Arguments
    from graphc.model import Model
    from graphc.signature import Signature


class Batcher:
    """Rows of many callers, in few calls of the model. Made by `Model.batcher`.

    >>> with model.batcher(max_batch=8, max_delay=0.002) as batcher:
    ...     y = batcher(x)  # from any thread: waits for the result
    ...     future = batcher.submit(x)  # a concurrent.futures.Future
    ...     y = await batcher.call(x)  # in a coroutine, of any event loop

    x has the batch axis: [1, …] for one row, or up to max_batch. Results are the model's, of these rows; errors reach the caller
    whose rows they are of. A call or future that is cancelled before its batch begins is not run.
    """

    def __init__(
        self,
        model: Model,
        signature: Signature,
        arguments: Arguments,
        max_batch: int,
        max_delay: float,
        max_waiting: int,
        check: bool,
    ) -> None:
        for name, value, least in (("max_batch", max_batch, 1), ("max_waiting", max_waiting, 1)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be a whole number from {least} up, not {value!r}")
        if not isinstance(max_delay, (int, float)) or not 0 <= max_delay <= threading.TIMEOUT_MAX:
            raise InputError(f"max_delay must be seconds from 0 up, not {max_delay!r}")
        self._rows = Rows(model, signature, arguments)
        self._max_batch, self._process = max_batch, os.getpid()
        self._waiting = Waiting(max_batch, max_delay, max_waiting)
        runner = _Runner(self._rows, check)
        # not self: a batcher that nobody holds any more is closed
        self._thread = threading.Thread(
            target=serve, args=(self._waiting, runner.run), name=f"graphc batcher of {model.name}", daemon=True
        )
        self._thread.start()
        self._close = weakref.finalize(self, self._waiting.close, False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Inputs by position or name, as of the model; its results. Waits for them, and before for a place to wait in. Raises
        InputError for inputs that do not fit, and what the model raises; GraphcError in a callback of a future, for which it would
        wait for ever."""
        self._require_other_thread()
        return self.submit(*args, **kwargs).result()

    def submit(self, *args: Any, **kwargs: Any) -> Future:
        """The same as a future. Waits where max_waiting requests wait already."""
        request = self._request(args, kwargs)
        admitted = self._waiting.room.enter()
        if not admitted.done() and threading.current_thread() is self._thread:
            admitted.cancel()
            self._require_other_thread()
        admitted.result()
        return self._put(request)

    async def call(self, *args: Any, **kwargs: Any) -> Any:
        """The same in a coroutine, whose loop goes on meanwhile."""
        request = self._request(args, kwargs)
        admitted = self._waiting.room.enter()
        try:
            if not admitted.done():
                await asyncio.wrap_future(admitted)
            admitted.result()
        except asyncio.CancelledError:
            if not admitted.cancel() and admitted.exception() is None:  # admitted meanwhile
                self._waiting.room.leave(1)
            raise
        return await asyncio.wrap_future(self._put(request))

    def warm(self, *args: Any, **kwargs: Any) -> None:
        """Make the plans for batches of 1 to max_batch of a row like this one, so that no caller waits for one. Raises what a call
        raises."""
        feeds, count = self._rows.checked(args, kwargs)
        if count != 1:
            raise InputError(f"warm takes one row, not {count}", hint="x[:1]")
        for rows in range(self._max_batch, 0, -1):  # the largest first: a model's first plan is the fastest
            self._rows.run_joined([feeds] * rows)

    def close(self, cancel: bool = False) -> None:
        """Take no more requests, and wait until those that were taken are run; cancel: those that do not run yet are cancelled."""
        self._close.detach()
        self._waiting.close(cancel)
        if self._process == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close(cancel=kind is not None)

    def __reduce__(self) -> tuple:
        raise TypeError("a batcher can be neither copied nor pickled: it has a thread; pickle its model")

    def _require_other_thread(self) -> None:
        """Raises GraphcError on the thread that runs batches, which calls the callbacks of futures."""
        if threading.current_thread() is self._thread:
            raise GraphcError(
                "a callback of a future would wait for the thread that it runs on",
                hint="call it in a thread of your own",
            )

    def _request(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Request:
        if self._process != os.getpid():  # nobody would ever answer
            raise GraphcError("the batcher's thread is in the process that forked this one", hint="open one here")
        feeds, rows = self._rows.checked(args, kwargs)
        if not 1 <= rows <= self._max_batch:
            raise InputError(
                f"a request has {rows} rows, the batcher takes 1 to {self._max_batch}",
                hint="split it, or open the batcher with a larger max_batch",
            )
        return Request(feeds, rows, self._rows.key(feeds))

    def _put(self, request: Request) -> Future:
        try:
            self._waiting.put(request)
        except GraphcError:
            self._waiting.room.leave(1)
            raise
        return request.future


class _Runner:
    """Runs requests together and gives each its results, or its error."""

    def __init__(self, rows: Rows, check: bool) -> None:
        """check: of each kind, compare one request of the first batch with what it has alone."""
        self._rows, self._check = rows, check
        self._checked: set[tuple] = set()
        self._error: Exception | None = None

    def run(self, requests: list[Request]) -> None:
        if self._error is not None:
            _fail(requests, self._error)
            return
        try:
            found = self._together(requests)
        except BaseException as error:  # whatever it is, nobody may wait for ever
            if len(requests) > 1 and self._error is None and isinstance(error, Exception):
                for request in requests:  # the error is of one of them
                    self.run([request])
                return
            _fail(requests, error)
            return
        for request, results in zip(requests, found):
            request.future.set_result(results[0] if len(results) == 1 else results)

    def _together(self, requests: Sequence[Request]) -> list[tuple[np.ndarray, ...]]:
        feeds, first = [r.feeds for r in requests], requests[0]
        found = self._rows.run(feeds, [r.rows for r in requests])
        kind = tuple(name for name, *_ in first.key)
        if self._check and len(requests) > 1 and kind not in self._checked:
            try:
                self._rows.require_independent(first.feeds, found[0])
            except InputError as error:
                self._error = error
                raise
            self._checked.add(kind)
        return found


def _fail(requests: Sequence[Request], error: BaseException) -> None:
    for request in requests:
        request.future.set_exception(error)

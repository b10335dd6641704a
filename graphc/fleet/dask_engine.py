"""Dask as an engine: its scheduler places tasks, and runs again what a lost worker had."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from distributed import Client, Future, KilledWorker, LocalCluster, WorkerPlugin, get_worker

from graphc.errors import GraphcError, LoadError, UnreachableError

if TYPE_CHECKING:
    import numpy as np
    from distributed import Worker

    from graphc.fleet.engine import Address
    from graphc.fleet.functions import Feeds
    from graphc.model import Model

AHEAD = 3  # tasks given out for each thread of a worker, so that none waits for the next, and memory stays bounded
TASK = 0.2  # seconds that a task should take, beside which the engine's own milliseconds are few
SEVERAL = 64  # inputs of a task at most
LOST = 60.0  # seconds without a worker after which nobody waits any longer
ANSWER = 10.0  # seconds that a scheduler has to answer
POLL = 2.0  # seconds between two looks at whether there are workers


@contextmanager
def connected(address: Address) -> Iterator[DaskEngine]:
    """The engine at an address. Raises UnreachableError where nobody answers."""
    if not address.scheduler:
        cluster = LocalCluster(
            n_workers=address.workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
        )
        with cluster, Client(cluster) as client:
            yield DaskEngine(client)
        return
    try:
        client = Client(f"tcp://{address.scheduler}", timeout=ANSWER)
    except (OSError, TimeoutError) as error:
        message = f"no Dask scheduler answers at {address.scheduler}: {error}"
        raise UnreachableError(message, hint="start one: dask scheduler, and dask worker HOST:PORT") from error
    with client:
        yield DaskEngine(client)


@contextmanager
def attached(client: Client) -> Iterator[DaskEngine]:
    """The engine of a client that stays open."""
    yield DaskEngine(client)


class DaskEngine:
    """See `Engine`. Each worker, also one that comes later, gets the model once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def map(self, model: Model, feeds: Iterable[Feeds]) -> Iterator[dict[str, np.ndarray]]:
        for result in self.answers(model, feeds):
            if isinstance(result, GraphcError):
                raise result
            yield result

    def answers(self, model: Model, feeds: Iterable[Feeds]) -> Iterator[dict[str, np.ndarray] | GraphcError]:
        held = Held(self._sent(model))
        self._client.register_plugin(held)
        waiting: deque[Future] = deque()
        looked, slots, several, coming = time.monotonic(), self._slots(), 1, iter(feeds)
        try:
            while True:
                while len(waiting) < AHEAD * max(1, slots) and (task := list(islice(coming, several))):
                    waiting.append(self._client.submit(run_held, held.name, task, pure=False))
                if not waiting:
                    return
                results, seconds = self._result(waiting.popleft())
                yield from results
                several = max(1, min(SEVERAL, int(TASK / max(seconds / len(results), 1e-9))))
                if time.monotonic() - looked > POLL:
                    looked, slots = time.monotonic(), self._slots()
        finally:
            with suppress(OSError, RuntimeError):  # the scheduler, or the client, may be gone
                for future in waiting:
                    future.cancel()
                self._client.unregister_worker_plugin(held.name)

    def _sent(self, model: Model) -> bytes:
        """The model's pickle, with its graph where a worker has not its file."""
        from graphc.fleet.functions import by_value

        data = pickle.dumps(model)
        return data if all(self._client.run(can_open, data).values()) else by_value(model)

    def _slots(self) -> int:
        return sum(self._client.nthreads().values())

    def _result(self, future: Future) -> Any:
        empty_since: float | None = None
        while True:
            try:
                return future.result(timeout=POLL)
            except TimeoutError:
                if self._client.status != "running":
                    raise UnreachableError("the connection to the Dask scheduler is lost") from None
                now = time.monotonic()
                empty_since = None if self._slots() else empty_since or now
                if empty_since is not None and now - empty_since > LOST:
                    message = f"no worker is left, for {LOST:g} s"
                    raise UnreachableError(message, hint="start one: dask worker HOST:PORT") from None
            except KilledWorker as error:
                message = f"several workers died at the same task: {error}"
                raise GraphcError(message, hint="run the model on this input here, to see why") from error


class Held(WorkerPlugin):
    """A model's pickle on every worker. It is read by the first task, whose caller hears what is wrong with it."""

    def __init__(self, data: bytes) -> None:
        self.name, self._data = f"graphc-{id(self)}-{time.time_ns()}", data
        self._model: Model | None = None

    def setup(self, worker: Worker) -> None:
        pass

    def model(self) -> Model:
        if self._model is None:
            self._model = pickle.loads(self._data)
        return self._model


def run_held(name: str, feeds: Sequence[Feeds]) -> tuple[list[dict[str, np.ndarray] | GraphcError], float]:
    """Of a task: results of the model that the worker has by this name, or what is wrong with an input; and seconds."""
    held = get_worker().plugins[name]
    assert isinstance(held, Held)
    model = held.model()
    begin = time.perf_counter()
    return [answer(model, one) for one in feeds], time.perf_counter() - begin


def answer(model: Model, feeds: Feeds) -> dict[str, np.ndarray] | GraphcError:
    try:
        return model.run(feeds)
    except GraphcError as error:
        return error


def can_open(data: bytes) -> bool:
    """Has this process the file that a pickled model is read from?"""
    try:
        pickle.loads(data)
    except LoadError:
        return False
    return True

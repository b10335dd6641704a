"""Engines by their addresses: 'dask://HOST:PORT' and 'dask://local?workers=2'."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlsplit

from graphc.errors import InputError, MissingPackageError
from graphc.records import record

if TYPE_CHECKING:
    import numpy as np
    from distributed import Client

    from graphc.errors import GraphcError
    from graphc.fleet.functions import Feeds
    from graphc.model import Model

FORMS = "dask://HOST:PORT, or dask://local?workers=2 for processes of this machine"


class Engine(Protocol):
    """Runs models in other processes."""

    def map(self, model: Model, feeds: Iterable[Feeds]) -> Iterator[dict[str, np.ndarray]]:
        """Results in the order of the inputs, of which only some are read ahead. What a lost worker had is run again. Raises what
        the model raises, and GraphcError where no worker is left."""
        ...

    def answers(self, model: Model, feeds: Iterable[Feeds]) -> Iterator[dict[str, np.ndarray] | GraphcError]:
        """The same, with what is wrong with an input in the place of its results."""
        ...


@record(frozen=True)
class Address:
    """scheduler: HOST:PORT, or '' for processes of this machine. workers: how many of these."""

    scheduler: str
    workers: int

    @property
    def threads(self) -> int | None:
        """How many a model of one of several processes of this machine should use."""
        from graphc.backends.cpu.hardware import cpu_count

        return None if self.scheduler else max(1, cpu_count() // self.workers)


def address(text: str) -> Address:
    """Raises InputError for what is no address of an engine."""
    from graphc.backends.cpu.hardware import cpu_count

    try:
        parts = urlsplit(text)
        port, query = parts.port, dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise InputError(f"'{text}' is no address of an engine: {error}", hint=FORMS) from None
    if parts.scheme != "dask" or not parts.hostname or parts.path not in ("", "/"):
        raise InputError(f"'{text}' is no address of an engine", hint=FORMS)
    if parts.hostname != "local":
        if port is None or query:
            raise InputError(f"'{text}' is no address of a scheduler", hint=FORMS)
        return Address(parts.netloc, 0)
    workers = query.pop("workers", str(cpu_count()))
    if port is not None or query or not (workers.isdecimal() and int(workers) > 0):
        raise InputError(f"'{text}' is no address of an engine: only workers=N, from 1 up, can be said", hint=FORMS)
    return Address("", int(workers))


def engine(on: str | Client) -> AbstractContextManager[Engine]:
    """The engine at an address, or of a dask.distributed Client. Raises InputError for what is none,
    MissingPackageError without Dask, and UnreachableError where nobody answers."""
    at = address(on) if isinstance(on, str) else on
    try:
        from graphc.fleet.dask_engine import attached, connected
    except ImportError as error:
        raise MissingPackageError(f"Dask is not installed: {error}", hint="pip install 'graphc[dask]'") from None
    return connected(at) if isinstance(at, Address) else attached(at)

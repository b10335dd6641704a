"""A process that tries files, with a fault planted for each number: what tests/harm must find."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harm import attempt, watch, worker
from harm.make import Harm

from graphc import frontends
from graphc.errors import LoadError


def _hang() -> None:
    while True:
        pass


def _fill() -> None:
    np.ones(watch.MEMORY)


def _write() -> None:
    Path("written-by-a-test-of-harm").touch()


def _unclear() -> None:
    raise LoadError("")


def _raise() -> None:
    raise ValueError("no GraphcError")


def _nest() -> None:
    _nest()


PLANTED: tuple[Callable[[], object], ...] = (
    lambda: None, _raise, _unclear, _fill, lambda: ctypes.string_at(0), _hang, _write, _nest, lambda: time.sleep(99)
)  # fmt: skip
WAITS, SECRET = len(PLANTED) - 1, len(PLANTED)


def serve(seed: int) -> None:
    """Number n has the fault PLANTED[n], SECRET reads what lies outside of the folder."""
    watch.SECONDS = 1.0
    made = worker.make

    def make(seed: int, i: int, folder: Path) -> Harm:
        harm = made(seed, 0, folder)

        def load(source: object) -> None:
            if i == SECRET:
                (folder.parent / "outside" / "secret.bin").read_bytes()
            else:
                PLANTED[i]()
            raise LoadError("as it should be")

        frontends.load = load
        return harm

    worker.make, worker.attempt = make, attempt.attempt
    worker.serve(seed)

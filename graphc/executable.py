"""What runs: a graph bound to input shapes, compiled; and the plans that a model keeps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from graphc.errors import InputError
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.report import Plan

# Held while a plan is made, and across fork: a child never finds a compiler that another thread left half way.
PLANNING = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=PLANNING.acquire, after_in_parent=PLANNING.release, after_in_child=PLANNING.release)

MAX_PLANS = 64  # of one model; the oldest is forgotten, so that a stream of new shapes does not fill the memory

Key = TypeVar("Key")
Kept = TypeVar("Kept")
Quick: TypeAlias = Callable[[Sequence[Any]], "dict[str, np.ndarray] | None"]


class Executable:
    """What a backend gives for one binding of the inputs: `run` takes and gives arrays in order; `plan` is its report.

    quick: `run` with a check of its own, which gives results by name, or None where there is none. It returns None, and has
    done nothing, where the inputs are not contiguous arrays of exactly the dtypes and shapes that were bound.
    """

    if TYPE_CHECKING:  # an attribute or a property, as the backend likes

        @property
        def plan(self) -> Plan: ...

    quick: Quick | None = None

    because: tuple[str, ...] = ()  # see `Plan`

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        """Of a plan for many sizes: is it for inputs of these shapes?"""
        return True

    def refusal(self, arrays: Sequence[np.ndarray]) -> str:
        """Of a plan for many sizes: the guard that does not hold for inputs of these shapes."""
        return ""

    def plan_for(self, arrays: Sequence[np.ndarray]) -> Plan:
        """The report for inputs of these shapes."""
        return self.plan

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        """Results in order. arrays: contiguous, of the bound dtypes and shapes. out: arrays to write results into, None for
        those that are to be made. Raises InputError where an array of `out` does not fit its result."""
        raise NotImplementedError

    def run_on(self, stream: Any, arrays: Sequence[Any], out: Sequence[Any | None] | None = None) -> list[Any]:
        """`run`, on a stream of the caller's, where the backend has such; None: on its own."""
        assert stream is None, "the backend has no streams"
        return self.run(arrays, out)


class Shared:
    """Plans for many shapes, the last used first."""

    def __init__(self) -> None:
        self._plans: list[Executable] = []  # replaced, never changed: other threads may be looking for one

    def __iter__(self) -> Iterator[Executable]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    def holding(self, arrays: Sequence[np.ndarray]) -> Executable | None:
        """The plan that is for inputs of these shapes."""
        for k, executable in enumerate(self._plans):
            if executable.holds(arrays):
                if k and PLANNING.acquire(blocking=False):  # an order for the next search, which may wait
                    try:
                        self._plans = [executable, *(e for e in self._plans if e is not executable)]
                    finally:
                        PLANNING.release()
                return executable
        return None

    def add(self, executable: Executable) -> None:
        """Keep one more, and no more than MAX_PLANS. Who calls holds PLANNING."""
        self._plans = [executable, *self._plans[: MAX_PLANS - 1]]

    def clear(self) -> None:
        self._plans = []


def check_results(out: Sequence[np.ndarray | None], results: Sequence[tuple[str, TensorType]]) -> None:
    """Raises InputError for an array that does not fit its result, of that name and type."""
    for a, (name, t) in zip(out, results):
        if a is not None and (a.shape != t.shape or a.dtype != t.dtype):
            actual, hint = (
                str(TensorType(a.dtype, a.shape)),
                "make it with numpy.empty(shape, dtype) of the result's type",
            )
            actual += "" if a.dtype.isnative else " of swapped bytes"
            raise InputError(f"the array for output '{name}' is {actual}, the result is {t}", hint=hint)


def value_key(a: np.ndarray) -> bytes | tuple[Any, ...]:
    """What tells arrays of one shape and dtype apart."""
    return tuple(a.ravel().tolist()) if a.dtype == object else a.tobytes()


def taken(arrays: Sequence[np.ndarray], valued: Collection[int]) -> list[np.ndarray]:
    """The arrays, with copies of those whose values decide shapes: a plan's key, the plan and the run must see the same values
    though another thread writes to the caller's array."""
    return [a.copy() if i in valued else a for i, a in enumerate(arrays)]


def remember(kept: dict[Key, Kept], key: Key, value: Kept) -> None:
    """Keep a plan; forget the oldest of more than MAX_PLANS. Who runs it still holds it."""
    kept[key] = value
    if len(kept) > MAX_PLANS:
        del kept[next(iter(kept))]

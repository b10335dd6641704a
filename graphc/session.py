"""A model with states, run step by step: recurrent networks, streams, accumulators."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import GraphcError, InputError

if TYPE_CHECKING:
    from graphc.model import Model


REUSED = 1 << 16  # bytes of all states: below, new arrays cost less than handing old ones over


class Session:
    """Steps of a model, each of which finds in its states what the one before has left there. Made by `Model.session`.

    >>> session = model.session(h=np.zeros((1, 8), np.float32))
    >>> y = session(x)                 # the inputs that are no states; gives the outputs that are none
    >>> session.state["h"]             # as it is now: a copy
    >>> session.reset()                # back to the first values

    A state has two arrays, which change places after each step (a new one each time where states are small): nothing is copied,
    and a step that raises an error leaves the states as they were. Kernels read and write in any order, so a step can't yet work
    within one array.

    The model stays free of states, and may have many sessions. One session belongs to one thread at a time: a second one that
    comes in between gets a GraphcError.
    """

    def __init__(self, model: Model, first: Mapping[str, np.ndarray]) -> None:
        """first: the states' values by name, contiguous and of the inputs' dtypes. They are copied."""
        self._model = model
        self._inputs = {s.input for s in model.states}
        self._first = {s.name: np.array(first[s.name], order="C") for s in model.states}
        self._now = {name: a.copy() for name, a in self._first.items()}
        self._reused = sum(a.nbytes for a in self._now.values()) >= REUSED
        self._next = {name: np.empty_like(a) for name, a in self._now.items()} if self._reused else {}
        self._busy = threading.Lock()

    def __call__(self, /, *args: np.ndarray, **kwargs: np.ndarray) -> Any:
        """One step. Inputs by position or name; gives the output array, or a tuple where there are several or none."""
        names = [s.name for s in self._model.inputs if s.name not in self._inputs]
        if len(args) > len(names):
            raise InputError(f"a step takes {len(names)} inputs, not {len(args)}", hint=f"inputs: {', '.join(names)}")
        for name in names[: len(args)]:
            if name in kwargs:
                raise InputError(f"input '{name}' is given twice, by position and by name")
        results = tuple(self.run({**dict(zip(names, args)), **kwargs}).values())
        return results[0] if len(results) == 1 else results

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One step by names: the inputs that are no states, and the outputs that are none.

        Raises InputError for inputs that do not fit, and GraphcError while another thread runs a step.
        """
        for name in feeds:
            if name in self._inputs:
                hint = "the session feeds it; its first value is given to model.session"
                raise InputError(f"input '{name}' is a state", hint=hint)
        with self._alone():
            states, before = self._model.states, self._now
            kept = {s.input: before[s.name] for s in states}
            out = {s.output: self._next[s.name] for s in states} if self._reused else None
            results = self._model.run({**feeds, **kept}, out)
            for s in states:
                _require_shape(s.name, before[s.name], results[s.output])
            self._now, self._next = {s.name: results.pop(s.output) for s in states}, before
        return results

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """The states' values by name: copies, to be read. Other values are given to a new session."""
        with self._alone():
            copies = {name: a.copy() for name, a in self._now.items()}
        for a in copies.values():
            a.flags.writeable = False
        return MappingProxyType(copies)

    def reset(self) -> None:
        """Give the states their first values again."""
        with self._alone():
            for name, a in self._first.items():
                np.copyto(self._now[name], a)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            hint = "make a session for each thread: model.session(…)"
            raise GraphcError("the session is in use by another thread", hint=hint)
        try:
            yield
        finally:
            self._busy.release()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a session is neither copied nor pickled: give its `state` to a new one (model.session(**session.state))"
        )

    def __repr__(self) -> str:
        states = ", ".join(f"{name} {a.dtype}{list(a.shape)}" for name, a in self._now.items())
        return f"Session of '{self._model.name}' with {states}"


def _require_shape(name: str, before: np.ndarray, after: np.ndarray) -> None:
    """A state whose sizes follow from another input's would change them from step to step."""
    if after.shape != before.shape:
        hint = f"sizes of the inputs must fit the state, or a new session begin with one of shape {after.shape}"
        raise InputError(f"state '{name}' has shape {before.shape}, this step makes it {after.shape}", hint=hint)

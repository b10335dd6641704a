"""A model with states, run step by step: decoders with their caches, recurrent networks, streams, accumulators."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import GraphcError, InputError
from graphc.in_place import InPlace
from graphc.session_file import write
from graphc.signature import Growth, State
from graphc.types import Sym, TensorType

if TYPE_CHECKING:
    from graphc.model import Model


REUSED = 1 << 16  # bytes of states that keep their shapes: below, new arrays cost less than handing old ones over


@dataclass(frozen=True)
class Carried:
    """A state in a session. type: of its input; axes: those along which it may change its size from step to step."""

    state: State
    type: TensorType
    axes: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def length_axis(self) -> int | None:
        """The axis that grows, None where none does or it is not known which."""
        return self.axes[0] if len(self.axes) == 1 else None

    @property
    def names(self) -> frozenset[str]:
        """Names of the dims that say what size the first value has, where it is zeros."""
        return frozenset(str(d) for i, d in enumerate(self.type.shape) if i not in self.axes and isinstance(d, Sym))

    def empty(self, sizes: Mapping[str, int]) -> np.ndarray:
        """Zeros of no length, for sizes by `names`."""
        shape = [
            0 if i in self.axes else sizes[str(d)] if isinstance(d, Sym) else d for i, d in enumerate(self.type.shape)
        ]
        return np.zeros(shape, self.type.dtype)


class Session:
    """Steps of a model, each of which finds in its states what the one before has left there. Made by `Model.session`.

    >>> session = model.session(h=np.zeros((1, 8), np.float32))
    >>> y = session(x)                 # the inputs that are no states; gives the outputs that are none
    >>> session.state["h"]             # as it is now: a copy
    >>> session.reset()                # back to the first values
    >>> session.truncate(10)           # states that grow: only their first 10 positions
    >>> other = session.fork()         # goes on from here, apart
    >>> session.save("session.npz")    # model.load_session("session.npz") goes on from there

    Nothing is copied from a step to the next: the result is the next step's input. A state that keeps its shape has two arrays
    that change places (a new one each time where states are small). One whose result is a Concat behind it, as a cache is,
    grows in place: a step writes what is new behind what is there, in memory that is doubled when it is full. Another one that
    grows has a new array after each step. A step that raises an error leaves the states as they were.

    The model stays free of states, and may have many sessions. One session belongs to one thread at a time: a second one that
    comes in between gets a GraphcError. After a fork of the process both go on, each with its own states.
    """

    def __init__(
        self,
        model: Model,
        states: Sequence[Carried],
        first: Mapping[str, np.ndarray],
        now: Mapping[str, np.ndarray] | None = None,
        growing: Sequence[Growth] = (),
    ) -> None:
        """first: contiguous values by the states' names, which nobody writes to. Where there is none, it is zeros of no length,
        for the sizes that the first step brings along. now: other values to go on from. growing: states that may grow in
        place.
        """
        self._model, self._states, self._first = model, tuple(states), dict(first)
        self._named = {s.name: s for s in states}
        self._inputs = {s.state.input for s in states}
        self._ends = [(s.name, s.state.input, s.state.output) for s in states]
        self._fixed = [(s.name, s.state.output) for s in states if not s.axes]
        self._reused: bool | None = None  # are arrays of states that keep their shapes? Known with their sizes
        self._now = dict(first if now is None else now)  # but those that are in place
        self._place = InPlace(model, tuple(growing)) if growing else None
        in_place = {g.input for g in growing}
        self._others = [end for end in self._ends if end[1] not in in_place]
        self._shared = True  # do the arrays belong to somebody else too?
        self._spare: dict[str, np.ndarray] = {}
        self._busy, self._process = threading.Lock(), os.getpid()

    # --- steps -----------------------------------------------------------------------------------------------------
    def __call__(self, /, *args: np.ndarray, **kwargs: np.ndarray) -> Any:
        """One step. Inputs by position or name; gives the output array, or a tuple where there are several or none."""
        names = [s.name for s in self._model.inputs if s.name not in self._inputs]
        if len(args) > len(names):
            count = f"{len(names)} input{'s' * (len(names) != 1)}"
            raise InputError(f"a step takes {count}, not {len(args)}", hint=f"inputs: {', '.join(names)}")
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
            results = self._appended(feeds)
            return self._handed_over(feeds) if results is None else results

    def _appended(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """A step that appends to states in place, and hands the others over. None, and nothing is done, where it can't."""
        place, now = self._place, self._now
        if place is None or len(now) < len(self._ends if place.room is None else self._others):
            return None
        states = {i: now[name] for name, i, _ in self._ends} if place.room is None else {}
        given = dict(feeds)
        for name, i, _ in self._others:
            given[i] = now[name]
        results = place.step(given, states, self._out(now))
        if results is not None:
            self._take(results, now, self._others)
            place.settle()
        return results

    def _handed_over(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A step that takes the states as inputs, and leaves new ones."""
        before = self._values
        if len(before) < len(self._ends):
            before = self._begun(feeds)
        given = dict(feeds)
        for name, i, _ in self._ends:
            given[i] = before[name]
        results = self._model.run(given, self._out(before) or None)
        self._take(results, before, self._ends)
        if self._place is not None:
            self._place.room = None
        return results

    def _take(
        self, results: dict[str, np.ndarray], before: Mapping[str, np.ndarray], ends: Sequence[tuple[str, str, str]]
    ) -> None:
        """Take the next values of states out of the results."""
        now = {}
        for name, _, output in ends:
            now[name] = after = results.pop(output)
            if after.shape != before[name].shape or after.dtype != before[name].dtype:
                _require_next(self._named[name], before[name], after)
        self._spare = {name: before[name] for name, _ in self._fixed} if self._reused and not self._shared else {}
        self._now, self._shared = now, False

    @property
    def _values(self) -> dict[str, np.ndarray]:
        """The states by name; those in place as views."""
        placed = {} if self._place is None else self._place.values
        named = {name: placed[i] for name, i, _ in self._ends if i in placed} | self._now
        return {name: named[name] for name, _, _ in self._ends if name in named}

    def _begun(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The first values, with those that nobody gave. Sizes are those of the step's inputs."""
        sizes = {name: 0 for s in self._states for name in s.names}  # the model says which input is missing
        for spec in self._model.inputs:
            if spec.name in feeds and spec.shape is not None:
                sizes |= dict(zip(map(str, spec.shape), np.shape(feeds[spec.name])))
        return {s.name: self._now[s.name] if s.name in self._now else s.empty(sizes) for s in self._states}

    def _out(self, before: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays for the next values of the states that keep their shapes; none where they are small."""
        if self._reused is None:
            self._reused = sum(before[name].nbytes for name, _ in self._fixed) >= REUSED
        if not self._reused:
            return {}
        spare = self._spare
        out = {output: spare[n] for n, output in self._fixed if n in spare}
        for n, output in self._fixed:
            if n not in spare:
                out[output] = self._model.state_memory.empty(before[n].shape, before[n].dtype)
        return out

    # --- states ----------------------------------------------------------------------------------------------------
    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """The states' values by name: copies, to be read. Other values are given to a new session.

        A state whose first value follows from the first step's inputs is missing until then.
        """
        with self._alone():
            copies = {name: np.array(a, order="C") for name, a in self._values.items()}
        for a in copies.values():
            a.flags.writeable = False
        return MappingProxyType(copies)

    @property
    def lengths(self) -> Mapping[str, int]:
        """How many positions the states that grow have, by name."""
        with self._alone():
            values = self._values
            return MappingProxyType({s.name: _length(values, s) for s in self._states if s.length_axis is not None})

    def reset(self) -> None:
        """Give the states their first values again."""
        with self._alone():
            self._now, self._shared, self._spare, self._reused = dict(self._first), True, {}, None
            if self._place is not None:
                self._place.room = None

    def truncate(self, length: int, *names: str) -> None:
        """Keep the first positions of the states that grow, of all or of those that are named: a text without its end.

        States that keep their shapes stay as they are. Raises InputError where a state is shorter or does not grow.
        """
        with self._alone():
            growing = {s.name: s for s in self._states if s.length_axis is not None}
            if not growing:
                raise InputError("no state grows along one axis", hint="fork the session before steps to be taken back")
            for name in names:
                if name not in growing:
                    hint = f"states that grow: {', '.join(growing)}"
                    raise InputError(f"'{name}' is no state that grows", hint=hint)
            chosen = [growing[name] for name in names or growing]
            values = self._values
            for s in chosen:
                if not 0 <= length <= _length(values, s):
                    message = (
                        f"state '{s.name}' has {_length(values, s)} positions, so it can't be truncated to {length}"
                    )
                    raise InputError(message, hint="session.lengths says how many there are")
            if self._place is not None:
                chosen = [s for s in chosen if not self._place.truncate(s.state.input, length)]
            cut = {s.name: _start(values[s.name], s.axes[0], length) for s in chosen if s.name in values}
            self._now = {**self._now, **cut}

    def fork(self) -> Session:
        """Another session of the same model, with the same values: both go on, apart. Copies nothing."""
        with self._alone():
            self._shared = True
            growing: tuple[Growth, ...] = ()
            if self._place is not None:
                self._place.share()
                growing = self._place.growing
            return Session(self._model, self._states, self._first, self._values, growing)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the states to a file (.npz, without pickles), for `Model.load_session`. Raises OSError."""
        with self._alone():
            write(path, [s.state for s in self._states], {"now": self._values, "first": self._first})

    # --- threads and processes -------------------------------------------------------------------------------------
    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._process != os.getpid():  # the step that another thread was in stays in the process before the fork
            self._busy, self._process = threading.Lock(), os.getpid()
            self._spare, self._shared = {}, True  # that step may have had them in its hands
        if not self._busy.acquire(blocking=False):
            hint = "make a session for each thread: model.session(…) or session.fork()"
            raise GraphcError("the session is in use by another thread", hint=hint)
        try:
            yield
        finally:
            self._busy.release()

    def __reduce__(self) -> Any:
        raise TypeError("a session is neither copied nor pickled: session.fork() and session.save(path) do that")

    def __repr__(self) -> str:
        values = self._values
        states = ", ".join(
            f"{s.name} {values[s.name].dtype}{list(values[s.name].shape)}" if s.name in values else f"{s.name} {s.type}"
            for s in self._states
        )
        why = (
            ""
            if self._place is None or not self._place.plans.why
            else f"; copied by each step: {self._place.plans.why}"
        )
        return f"Session of '{self._model.name}' with {states}{why}"


def _length(values: Mapping[str, np.ndarray], s: Carried) -> int:
    return values[s.name].shape[s.axes[0]] if s.name in values else 0


def _start(a: np.ndarray, axis: int, length: int) -> np.ndarray:
    """The first positions along an axis."""
    if a.shape[axis] == length:
        return a
    return np.ascontiguousarray(np.asarray(a)[(slice(None),) * axis + (slice(length),)])


def _require_next(s: Carried, before: np.ndarray, after: np.ndarray) -> None:
    """Raises InputError for a result that the next step would not take."""
    if after.dtype != before.dtype or after.ndim != before.ndim:
        hint = f"output '{s.state.output}' must have the dtype and the number of dims of input '{s.state.input}'"
        made = f"{after.dtype}{list(after.shape)}"
        raise InputError(
            f"state '{s.name}' is {before.dtype}{list(before.shape)}, this step makes it {made}", hint=hint
        )
    if any(n != m and i not in s.axes for i, (n, m) in enumerate(zip(before.shape, after.shape))):
        hint = f"sizes of the inputs must fit the state, or a new session begin with one of shape {after.shape}"
        message = f"state '{s.name}' has shape {before.shape}, this step makes it {after.shape}"
        raise InputError(message, hint=hint)

"""Steps of one session that append to its states in place (graphc/growing.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.room import Room, capacity_for
from graphc.signature import Growth
from graphc.sizes import LEAST

if TYPE_CHECKING:
    from graphc.executable import Executable
    from graphc.model import Model


class InPlace:
    """Growing states of a session, by their inputs. room: where they are, None while they are elsewhere."""

    def __init__(self, model: Model, growing: tuple[Growth, ...]) -> None:
        self.growing, self.plans = growing, model.growing_plans(growing)
        self.room: Room | None = None
        self._model = model
        self._done: tuple[Room, np.ndarray]
        self._inputs = [g.input for g in growing]
        grown = {g.output for g in growing}
        self._results = [s.name for s in model.outputs if s.name not in grown]

    @property
    def values(self) -> dict[str, np.ndarray]:
        """The states in the room: views."""
        return {} if self.room is None else dict(zip(self._inputs, self.room.values))

    def share(self) -> None:
        """A fork reads what is in the room now."""
        if self.room is not None:
            self.room.share()

    def truncate(self, name: str, length: int) -> bool:
        """Keep the first positions of a state, if it is in the room."""
        if self.room is None or name not in self._inputs:
            return False
        self.room.truncate(self._inputs.index(name), length)
        return True

    def step(
        self, feeds: Mapping[str, Any], states: Mapping[str, np.ndarray], out: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray] | None:
        """The other results of a step, which counts with `settle`. None, and nothing is done, where it can't append in place.

        feeds: the other inputs. states: the growing ones, where they are not in the room. out: arrays for results.
        """
        room = None if self.plans.why else self._own_room(states)
        arrays = None if room is None else self._model.in_order({**feeds, **dict(zip(self._inputs, room.arrays))})
        if room is None or arrays is None:
            return None
        executable = self.plans.held([*arrays, room.lengths])
        if executable is None:
            found = self._find(arrays, room)
            if found is None:
                return None
            executable, capacity = found
            if capacity > room.capacity:
                room = room.with_capacity(capacity)
                arrays = self._with(arrays, room.arrays)
        places = [*map(out.get, self._results), None] if out else None
        *results, lengths = self._model.run_plan(executable, [*arrays, room.lengths], places)
        self._done = room, lengths
        return dict(zip(self._results, results))

    def settle(self) -> None:
        """The last step's states are those of the session."""
        self.room, lengths = self._done
        self.room.lengths = lengths

    def _own_room(self, states: Mapping[str, np.ndarray]) -> Room | None:
        """Room that may be written to; None where the states are too short for plans that stand for many lengths."""
        room = self.room
        if room is None:
            values = [states[i] for i in self._inputs]
            lengths = [a.shape[g.axis] for g, a in zip(self.growing, values)]
            if min(lengths) < LEAST:
                return None
            return Room(self._model.state_memory, self.growing, values, capacity_for(max(lengths)))
        if room.least < LEAST:
            return None
        return room if room.mine else room.with_capacity(room.capacity)

    def _find(self, arrays: list[np.ndarray], room: Room) -> tuple[Executable, int] | None:
        """The plan for a step, and the capacity that it wants."""
        if not self._model.is_read_for(self._with(arrays, room.values)):
            return None

        def step(capacity: int) -> list[np.ndarray]:
            return [*self._with(arrays, room.stand_ins(capacity)), room.lengths]

        return self.plans.find(step, room.capacity)

    def _with(self, arrays: list[np.ndarray], states: list[np.ndarray]) -> list[np.ndarray]:
        """The inputs with other arrays for the growing states."""
        given = dict(zip(self._inputs, states))
        return [given.get(name, a) for name, a in zip(self._model.required, arrays)]

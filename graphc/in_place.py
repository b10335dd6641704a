"""Steps of one session that append to its states in place (graphc/growing.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.growing import Growth
from graphc.room import Room, capacity_for
from graphc.sizes import LEAST

if TYPE_CHECKING:
    from graphc.model import Model


class InPlace:
    """Growing states of a session, by their inputs. room: where they are, None while they are elsewhere."""

    def __init__(self, model: Model, growing: tuple[Growth, ...]) -> None:
        self.growing, self.plans = growing, model.growing_plans(growing)
        self.room: Room | None = None
        self._model = model
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
        """The other results of a step. None, and nothing is done, where it can't append in place.

        feeds: the other inputs. states: the growing ones, where they are not in the room. out: arrays for results.
        """
        room = self.room
        if self.plans.why:
            return None
        if room is None:
            values = [states[i] for i in self._inputs]
            lengths = [a.shape[g.axis] for g, a in zip(self.growing, values)]
            if min(lengths) < LEAST:
                return None
            room = Room(self.growing, values, capacity_for(max(lengths)))
        elif room.least < LEAST:
            return None
        elif not room.mine:
            room = room.with_capacity(room.capacity)
        arrays = self._model.in_order({**feeds, **dict(zip(self._inputs, room.arrays))})
        if arrays is None:
            return None
        executable = self.plans.held([*arrays, room.lengths])
        if executable is None:
            if not self._model.is_read_for(self._with(arrays, room.values)):
                return None
            found = self.plans.find(lambda capacity: self._with_capacity(arrays, room, capacity), room.capacity)
            if found is None:
                return None
            executable, capacity = found
            if capacity > room.capacity:
                room = room.with_capacity(capacity)
                arrays = self._with(arrays, room.arrays)
        *results, lengths = self._model.run_plan(executable, [*arrays, room.lengths], [*map(out.get, self._results), None])
        room.lengths = lengths
        self.room = room
        return dict(zip(self._results, results))

    def _with_capacity(self, arrays: list[np.ndarray], room: Room, capacity: int) -> list[np.ndarray]:
        """The inputs and the lengths, as if the room had that capacity."""
        return [*self._with(arrays, room.stand_ins(capacity)), room.lengths]

    def _with(self, arrays: list[np.ndarray], states: list[np.ndarray]) -> list[np.ndarray]:
        given = dict(zip(self._inputs, states))
        return [given.get(name, a) for name, a in zip(self._model.required, arrays)]

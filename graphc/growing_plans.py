"""Plans for steps of sessions that append to states in place: shared by all sessions of a model with the same states."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphc import classes
from graphc.errors import GraphcError
from graphc.executable import PLANNING, Executable, Shared
from graphc.growing import TooSmall
from graphc.room import capacity_for
from graphc.signature import Growth

if TYPE_CHECKING:
    from graphc.model import Source

LARGE = 1 << 20  # positions: room enough to find a plan on disk
MOST = 1 << 28  # positions
Step = Callable[[int], "list[np.ndarray]"]  # the inputs for a capacity, of which shapes count, then the lengths


class GrowingPlans:
    """why: the reason why there are none; "" where there may be."""

    def __init__(self, source: Source, valued: Collection[int], growing: tuple[Growth, ...]) -> None:
        self.growing, self.why = growing, ""
        self._source, self._valued = source, valued
        self.plans = Shared()

    def held(self, arrays: Sequence[np.ndarray]) -> Executable | None:
        """The plan that is there for these inputs and lengths."""
        return self.plans.holding(arrays)

    def find(self, step: Step, capacity: int) -> tuple[Executable, int] | None:
        """The plan for a step, and the capacity that it wants, of this one doubled again and again: it is there, or on disk, or it
        is made now. None where the step can't be one in place."""
        with PLANNING:
            found = self._roomy(step, capacity)
            if found is not None:
                return found
            try:
                made = self._source.find_growing(step(LARGE), self._valued, self.growing) or self._made(step, capacity)
            except (GraphcError, MemoryError):
                if classes.STRICT:
                    raise
                return None  # what is wrong with these inputs, a step that hands states over says
            except Exception as error:
                if classes.STRICT:
                    raise
                self.why = f"{type(error).__name__}: {error}"
                return None
            if made is None:
                self.why = "the target has no plans for many sizes"
                return None
            self.plans.add(made)
            return self._roomy(step, capacity)

    def _made(self, step: Step, capacity: int) -> Executable | None:
        try:
            return self._source.bind_growing(step(capacity), self._valued, self.growing)
        except TooSmall as error:
            capacity = max(2 * capacity, capacity_for(error.length))
            return self._source.bind_growing(step(capacity), self._valued, self.growing)

    def _roomy(self, step: Step, capacity: int) -> tuple[Executable, int] | None:
        while capacity <= MOST:
            executable = self.held(step(capacity))
            if executable is not None:
                return executable, capacity
            capacity *= 2
        return None

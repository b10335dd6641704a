"""Constants in float32 that a pass makes of narrow ones. Plans share what is packed of them, and none keeps them: who packs them
remembers what they were made from."""

from __future__ import annotations

import weakref

import numpy as np

FLOAT32 = np.dtype(np.float32)

_MADE: dict[
    int, weakref.ref[np.ndarray]
] = {}  # by the id of what it was made from, which is in _FROM as long as it is here
_FROM: dict[int, np.ndarray] = {}  # by the id of what was made


def in_float32(data: np.ndarray) -> np.ndarray:
    """The elements in float32, read-only: the same array each time, as long as somebody has it."""
    known = _MADE.get(id(data))
    made = None if known is None else known()
    if made is not None:
        return made
    made = data.astype(FLOAT32)
    made.flags.writeable = False
    before, after = id(data), id(made)

    def forget(_: object) -> None:
        _FROM.pop(after, None)
        _MADE.pop(before, None)

    _FROM[after], _MADE[before] = data, weakref.ref(made, forget)
    return made


def origin(data: np.ndarray) -> np.ndarray:
    """What a constant was made from, itself where nothing is known."""
    return _FROM.get(id(data), data)

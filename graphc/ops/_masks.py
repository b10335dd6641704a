"""Masks of attention that hide keys: added to scores, or in their place."""

from __future__ import annotations

import numpy as np

HIDDEN = -1e30
HIDDEN_HALF = -6e4  # of float16, whose lowest number is -65504


def hidden_from(dtype: np.dtype) -> float:
    """A number from there down, added to a score or in its place, leaves nothing of the score."""
    return HIDDEN_HALF if dtype == np.float16 else HIDDEN

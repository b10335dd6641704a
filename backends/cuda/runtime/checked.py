"""Runs whose kernels are watched, GRAPHC_CHECK=memory: races, addresses out of bounds, memory read before it was written."""

from __future__ import annotations

import os

from graphc.errors import InputError

MODES = ("memory",)


def wanted() -> bool:
    """Does the environment ask for them? Raises InputError for a mode that there is not."""
    mode = os.environ.get("GRAPHC_CHECK", "")
    if mode and mode not in MODES:
        raise InputError(f"there is no GRAPHC_CHECK={mode}", hint=f"one of: {', '.join(MODES)}")
    return bool(mode)

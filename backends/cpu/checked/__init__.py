"""A run that looks at every step: GRAPHC_CHECK=memory, or GRAPHC_DEBUG=bounds. See `run.CheckedRunner`."""

from __future__ import annotations

import os

from graphc.errors import InputError

MODES = {"GRAPHC_CHECK": ("memory",), "GRAPHC_DEBUG": ("bounds",)}  # two names of one thing


def wanted() -> bool:
    """Does the environment ask for checked runs? Raises InputError for a mode that there is not."""
    for name, modes in MODES.items():
        mode = os.environ.get(name, "")
        if mode and mode not in modes:
            raise InputError(f"there is no {name}={mode}", hint=f"one of: {', '.join(modes)}")
    return any(map(os.environ.get, MODES))

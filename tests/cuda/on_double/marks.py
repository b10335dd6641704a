"""Doubles of certain facts."""

from __future__ import annotations

from typing import Any

import pytest


def of(*facts: dict[str, Any]) -> pytest.MarkDecorator:
    """A test with the fixture `made`, on a double for each set of State's parameters."""
    return pytest.mark.parametrize("made", facts, indirect=True, ids=str)

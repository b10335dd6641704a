"""Instruction sets that tests run on where the machine has them."""

from __future__ import annotations

import pytest

from graphc.backends.cpu.target import detect
from graphc.errors import UnsupportedError


def require(target: str) -> None:
    """Skip the test where this CPU lacks the instruction set of a target such as 'cpu:avx2'. What else a target can't do is a
    failure."""
    _, _, isa = target.partition(":")
    try:
        detect(isa or None)
    except UnsupportedError as error:
        pytest.skip(str(error))

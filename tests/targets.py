"""Targets that tests run on where the machine has what they need: instruction sets, and the compiler of CUDA kernels."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from graphc.backends.cpu.target import detect
from graphc.errors import UnsupportedError

CUDA = find_spec("numba_cuda") is not None  # one that is there and does not work is a failure
WITHOUT_CUDA = "numba-cuda, which compiles CUDA kernels, is not installed: pip install '.[test,cuda]'"


def require(target: str) -> None:
    """Skip the test where this CPU lacks the instruction set of a target such as 'cpu:avx2'. What else a target can't do is a
    failure."""
    _, _, isa = target.partition(":")
    try:
        detect(isa or None)
    except UnsupportedError as error:
        pytest.skip(str(error))


def offered(*targets: str) -> list[str]:
    """Those of the targets whose instruction set this CPU has."""
    found = []
    for target in targets:
        try:
            detect(target.partition(":")[2] or None)
        except UnsupportedError:
            continue
        found.append(target)
    return found

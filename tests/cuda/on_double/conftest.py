"""Tests on the double of CUDA's driver. They are run by test_gpu.py, each file in a process of its own; by hand:

pytest tests/cuda/on_double/double_models.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from driver_double import State, double  # noqa: E402
from driver_double.work import ORDERS  # noqa: E402


@pytest.fixture(params=[o for o in ORDERS if o in os.environ.get("DOUBLE_ORDERS", ",".join(ORDERS)).split(",")])
def gpu_double(request: pytest.FixtureRequest) -> Iterator[State]:
    """In each order in which work can happen, or those that DOUBLE_ORDERS names."""
    with double(order=request.param) as d:
        yield d


@pytest.fixture
def late() -> Iterator[State]:
    with double() as d:
        yield d


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[State]:
    """With the facts of a parameter, which is indirect."""
    with double(**request.param) as d:
        yield d

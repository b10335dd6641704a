"""If, Loop and Scan as jumps in the program, on CUDA: plainly, and in checked runs."""

from __future__ import annotations

import controls
import pytest
from controls import *  # noqa: F403  (its tests)


@pytest.fixture(autouse=True, params=["", "memory"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CHECK", request.param)
    monkeypatch.setattr(controls, "WAYS", [{"target": "cuda:emulate"}])
    monkeypatch.setattr(controls, "KERNELS", {"loop": "carry", "branch": "jump"})

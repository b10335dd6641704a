"""If, Loop and Scan as jumps in the program, on CUDA: plainly, and in checked runs."""

from __future__ import annotations

import controls
import numpy as np
import pytest
from controls import *  # noqa: F403  (its tests)
from controls import programs, steps_of, vector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import agree

import graphc
from graphc.graph import Graph


@pytest.fixture(autouse=True, params=["", "memory"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CHECK", request.param)
    monkeypatch.setattr(controls, "WAYS", [{"target": "cuda:emulate"}])
    monkeypatch.setattr(controls, "KERNELS", {"loop": "carry", "branch": "jump"})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs(), st.integers(0, 5))
def test_random_programs(graph: Graph, trips: int):
    shape = graph.inputs[0].shape
    feeds = {"x": vector(1, shape), "y": vector(2, shape), "n": np.array(trips)}
    (model,) = controls.models(graph)
    want = graphc.compile(graph, target="reference").run(feeds)
    for _ in range(2):
        agree(model.run(feeds), want)
    assert not any(s.host for s in steps_of(model))

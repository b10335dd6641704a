"""If, Loop and Scan as jumps in the program, on CUDA: plainly, and in checked runs."""

from __future__ import annotations

import controls
import numpy as np
import pytest
from controls import *  # noqa: F403  (its tests)
from controls import I64, held, loop, programs, steps_of, vector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import agree

import graphc
from graphc.graph import Builder, Graph


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


# --- launches -----------------------------------------------------------------------------------------------------------
def kernels_of(graph: Graph) -> list[str]:
    (model,) = controls.models(graph)
    feeds = {v.name: vector(0, v.shape).astype(v.dtype) for v in graph.inputs}
    model.run(feeds)
    return [s.kernel for s in steps_of(model)]


def test_what_surrounds_a_body():
    """One copy before it, one after; the host reads nothing where it can count, nor does the device count what nobody asks for."""
    trip = ["map", "carry", "jump"]
    b = Builder("powers")
    x = b.input("x", "float32", (8,))
    (y,) = loop(b, b.constant(5, I64), None, [x], [], lambda i, turn, going, s: [going, i.add("Mul", s, s)], 1)
    assert kernels_of(b.build({"y": y})) == ["carry", *trip]
    b = Builder("sums")
    x, s = b.input("x", "float32", (3, 8)), b.input("s", "float32", (8,))
    element = held([("s", "float32", (8,)), ("e", "float32", (8,))], lambda i, s, e: [v := i.add("Add", s, e), v])
    made = b.add("Scan", s, x, body=element, n_states=1, num_scan_inputs=1, outputs=2)
    kernels = kernels_of(b.build({"last": made[0], "rows": made[1]}))
    assert [k for k in kernels if not k.startswith("copy")] == [
        "carry", "loop_begin", "carry", "map", "carry", "loop_next", "jump"
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(4, 3), (64, 513)])
def test_states_of_several_widths(shape: tuple[int, ...]):
    """Together where they are small, else each in units as wide as it can be."""
    b = Builder("widths")
    states = [b.input(f"x{i}", t, shape) for i, t in enumerate(("uint8", "float16", "float32", "float64"))]
    results = loop(
        b, b.constant(3, I64), None, states, [], lambda i, turn, going, *s: [going, *(i.add("Add", v, v) for v in s)], 4
    )
    controls.check(
        b.build({f"y{i}": v for i, v in enumerate(results)}), [{v.name: np.ones(shape, v.dtype) for v in states}]
    )

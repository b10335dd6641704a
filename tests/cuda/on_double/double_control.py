"""If, Loop and Scan on a GPU: the host reads conditions from the device, in whatever order its work happens."""

from __future__ import annotations

import controls
import numpy as np
import pytest
from controls import branch, counted, vector
from driver_double import State

import graphc
from graphc.backends.cuda.runtime.context import Context
from graphc.graph import Builder


@pytest.fixture(autouse=True)
def ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "WAYS", [{"target": "cuda"}])
    monkeypatch.setattr(controls, "KERNELS", {"loop": "carry", "branch": "jump"})


@pytest.mark.parametrize("trips, stop", [(None, None), (None, 4), (5, None), (5, 2)])
def test_trips(trips: int | None, stop: int | None, gpu_double: State):
    controls.check(*counted(trips, stop))


def test_branches_in_a_loop(gpu_double: State):
    controls.test_a_branch_in_a_loop_in_a_branch_in_a_scan()


def test_a_report_ends_a_loop(gpu_double: State):
    controls.test_a_position_out_of_range_ends_a_loop_that_would_not_end()


def test_positions_out_of_range(gpu_double: State):
    for inner in (False, True):
        controls.test_positions_out_of_range_are_reported_by_the_node_within(inner)


def test_a_scan_waits_for_nothing(gpu_double: State, monkeypatch: pytest.MonkeyPatch):
    """Where data does not say how often, the host only counts."""
    monkeypatch.setattr(Context, "condition", None)
    controls.test_scans(1, 1, 0, 0)


def test_arrays_of_the_device(gpu_double: State):
    """A condition that the host has not seen, and a result that the next run reads."""
    b = Builder("device")
    p, x = b.input("p", "bool", ()), b.input("x", "float32", (8,))
    y = branch(b, p, [x], lambda i, x: [i.add("Neg", x)], lambda i, x: [i.add("Exp", x)])
    model = graphc.compile(b.build({"y": y}), target="cuda", cache=False)
    given = model.to_device(vector())
    for condition, want in ((True, -vector()), (False, np.exp(vector()))):
        made = model.run({"p": model.to_device(np.array(condition)), "x": given})["y"]
        np.testing.assert_allclose(made.numpy(), want, rtol=1e-6)

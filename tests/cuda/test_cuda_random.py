"""Random numbers of the GPU's kernels, in the emulator: seeds differ, draws by one seed are those of other backends."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.graph import Builder, Graph


def seeds() -> Graph:
    b = Builder("seeds")
    return b.build({"one": b.add("RandomSeed"), "other": b.add("RandomSeed")})


def test_every_seed_is_another_one():
    model = graphc.compile(seeds(), target="cuda:emulate")
    found = [int(s) for _ in range(8) for s in model.run({}).values()]
    assert len(set(found)) == 16  # of 2**64: two are equal once in 10**17 times
    assert not any(s.host for s in model.plan().steps)


def test_the_machine_code_of_a_seed_reads_clocks():
    (first, _) = graphc.compile(seeds(), target="cuda", arch="sm_90").plan().steps
    assert "registers" in first.reason and "spilled" not in first.reason


@pytest.mark.parametrize("op, attrs", [("RandomNormalLike", {"scale": 2.0}), ("RandomUniformLike", {"low": -1.0})])
def test_draws_by_a_seed(op: str, attrs: dict):
    b = Builder("draws")
    x = b.input("x", np.float32, (5, 7))
    graph, feeds = b.build({"y": b.add(op, x, seed=3.0, **attrs)}), {"x": np.zeros((5, 7), np.float32)}
    want = graphc.compile(graph, target="reference").run(feeds)["y"]
    got = graphc.compile(graph, target="cuda:emulate").run(feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)  # logarithms and sines in float32


def test_draws_without_a_seed():
    b = Builder("draws")
    x = b.input("x", np.float32, (40,))
    model = graphc.compile(b.build({"y": b.add("Bernoulli", x)}), target="cuda:emulate")
    p = np.full(40, 0.5, np.float32)
    first, second = (model.run({"x": p})["y"] for _ in range(2))
    assert set(first) == {0.0, 1.0} and not np.array_equal(first, second)  # equal once in 2**40 times

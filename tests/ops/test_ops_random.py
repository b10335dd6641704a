"""Random operators: compiled ones draw what the reference draws of a seed, and something else each time without one."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.graph import Builder, Graph

LOG_P = np.log(np.float32([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0001]]))


def drawing(name: str, x: np.ndarray | None, **attrs: object) -> Graph:
    b = Builder(name)
    given = [] if x is None else [b.input("x", x.dtype, x.shape)]
    return b.build({"y": b.add(name, *given, **attrs), "z": b.add(name, *given, **attrs)})


def run(name: str, x: np.ndarray | None, target: str = "cpu", **attrs: object) -> np.ndarray:
    return graphc.compile(drawing(name, x, **attrs), target=target).run({} if x is None else {"x": x})["y"]


USES = [
    ("RandomNormal", None, {"shape": (40, 50), "mean": 3.0, "scale": 0.5}),
    ("RandomUniform", None, {"shape": (40, 50), "low": 2.0, "high": 4.0, "dtype": "float64"}),
    ("RandomNormalLike", np.zeros((40, 50), np.float64), {}),
    ("RandomUniformLike", np.zeros((40, 50), np.float32), {"dtype": "float16"}),
    ("Bernoulli", np.full((40, 50), 0.3, np.float32), {"dtype": "int32"}),
    ("Multinomial", LOG_P, {"sample_size": 1000}),
]


@pytest.mark.parametrize(("name", "x", "attrs"), USES, ids=[name for name, *_ in USES])
def test_a_seed_gives_what_the_reference_draws(name: str, x: np.ndarray | None, attrs: dict[str, object]):
    for seed in (0.0, 1.0, 2.5):
        got, want = run(name, x, seed=seed, **attrs), run(name, x, "reference", seed=seed, **attrs)
        assert got.dtype == want.dtype and got.shape == want.shape
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, want, atol=2e-3 if got.dtype == np.float16 else 2e-6)
        else:  # numbers that a rounding error puts on the other side of a limit
            assert np.mean(got != want) < 0.002
    assert not np.array_equal(run(name, x, seed=1.0, **attrs), run(name, x, seed=2.0, **attrs))


@pytest.mark.parametrize(("name", "x", "attrs"), USES, ids=[name for name, *_ in USES])
def test_no_seed_gives_others_in_each_run_and_of_each_node(name: str, x: np.ndarray | None, attrs: dict[str, object]):
    model = graphc.compile(drawing(name, x, **attrs))
    feeds = {} if x is None else {"x": x}
    assert not any(s.host for s in model.plan({k: v.shape for k, v in feeds.items()}).steps)
    drawn = [v for _ in range(3) for v in model.run(feeds).values()]
    assert len({v.tobytes() for v in drawn}) == len(drawn)


def test_seeds_of_many_runs_differ_in_every_bit():
    b = Builder("seeds")
    model = graphc.compile(b.build({"seed": b.add("RandomSeed")}))
    seeds = [int(model.run({})["seed"]) for _ in range(500)]
    assert len(set(seeds)) == 500
    ones = np.array([[seed >> bit & 1 for bit in range(64)] for seed in seeds]).mean(0)
    assert ones.min() > 0.35 and ones.max() < 0.65  # 0.5, and six standard deviations

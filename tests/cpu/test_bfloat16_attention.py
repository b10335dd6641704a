"""Attention in bfloat16 on request, against the reference in float64 of queries, keys and values that are rounded to bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from test_attention import F32, F64, graph_of, shapes_of

import graphc
from graphc.backends.cpu.attention.attention import FEW
from graphc.backends.cpu.target import detect
from graphc.interpret import run_graph

pytestmark = pytest.mark.skipif(not detect().dots_bfloat16, reason="this CPU has no AVX-512 with BF16")
ROUNDED = 2.0**-8  # what a weight of a value loses at most, of itself


@pytest.fixture(params=["memory", ""], ids=["checked", "plain"], autouse=True)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CHECK", request.param)


def rounded(a: np.ndarray) -> np.ndarray:
    return a.astype(ml_dtypes.bfloat16).astype(F64)


def check(
    shapes: dict[str, tuple[int, ...]],
    heads: int = 2,
    threads: int = 1,
    hidden: float = 0.0,
    lengths: Sequence[int] = (),
    **attrs: Any,
) -> np.ndarray:
    """As in test_attention. Weights sum to 1, so that their rounding moves the result by at most that of the largest value."""
    rng = np.random.default_rng(3)
    feeds = {name: rng.uniform(-2, 2, shape).astype(F32) for name, shape in shapes.items()}
    if hidden:
        feeds["mask"][rng.random(feeds["mask"].shape) < hidden] = -np.inf
    if lengths:
        shapes, feeds = {**shapes, "lengths": (len(lengths),)}, {**feeds, "lengths": np.array(lengths)}
        attrs["at_end"] = True
    attrs = {"kv_heads": heads, "heads": heads, "scale": 0.3, "zeros": True, **attrs}
    model = graphc.compile(graph_of(shapes, **attrs), precision="bf16", threads=threads)
    (step,) = model.plan().steps
    assert "both operands in bfloat16" in step.reason
    got = model.run(feeds)["y"]
    wide = [rounded(a) if n in "qkv" else a.astype(F64) if n == "mask" else a for n, a in feeds.items()]
    (want,) = run_graph(graph_of(shapes, F64, **attrs), wide)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    error = np.abs(got - want)
    assert np.nanmax(error, initial=0) <= ROUNDED * np.abs(feeds["v"]).max() + 4e-6
    # as many roundings up as down: on average far less than the bound
    assert np.nanmean(error) <= ROUNDED / 2
    return got


@pytest.mark.parametrize("keys", [1, 15, 16, 17, 31, 32, 33, 48, 49, 100])
def test_keys(keys: int):
    for queries in (FEW + 1, 30):
        check(shapes_of(queries, keys))


@pytest.mark.parametrize("size, v_size", [(1, 1), (3, 5), (16, 8), (17, 16), (33, 33), (64, 64), (128, 130), (80, 48)])
def test_sizes(size: int, v_size: int):
    check(shapes_of(19, 45, size=size, v_size=v_size))


@pytest.mark.parametrize("heads, kv_heads", [(2, 1), (6, 2), (12, 4)])
def test_groups_and_threads(heads: int, kv_heads: int):
    shapes = shapes_of(23, 37, heads, kv_heads, batch=2)
    one = check(shapes, heads, kv_heads=kv_heads, after=1, at_end=True)
    np.testing.assert_array_equal(one, check(shapes, heads, threads=3, kv_heads=kv_heads, after=1, at_end=True))


@pytest.mark.parametrize("mask", [(40,), (2, 1, 40), (2, 9, 1), (3, 2, 9, 40)], ids=str)
@pytest.mark.parametrize("window", [{}, {"after": 0, "at_end": True}, {"before": 12, "after": 2}], ids=str)
def test_masks(mask: tuple[int, ...], window: dict[str, Any]):
    for softcap in (0.0, 0.7):
        check({**shapes_of(9, 40, batch=3), "mask": mask}, hidden=0.4, softcap=softcap, **window)


@pytest.mark.parametrize("before, after", [(-1, 0), (0, 0), (15, 0), (16, 16), (70, -1)])
@pytest.mark.parametrize("offset", [-20, 0, 33])
def test_windows(before: int, after: int, offset: int):
    for queries, keys in ((30, 70), (70, 30)):
        check(shapes_of(queries, keys), before=before, after=after, offset=offset)


@pytest.mark.parametrize("lengths", [[3, 40], [0, 17], [33, 32]])
def test_lengths(lengths: list[int]):
    check(shapes_of(10, 40, batch=2), lengths=lengths)


@pytest.mark.parametrize("queries, keys, size, v_size", [(30, 33, 17, 20), (64, 100, 64, 64)])
def test_weights_are_rounded_behind_the_softmax(queries: int, keys: int, size: int, v_size: int):
    """Against the formula, with its weights rounded too: apart from those few that float32 rounds to a neighbour, sums differ by
    roundings of float32."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.uniform(-2, 2, (n, m)).astype(F32) for n, m in ((queries, size), (keys, size), (keys, v_size)))
    graph = graph_of(shapes_of(queries, keys, 1, 1, size, v_size), heads=1, kv_heads=1, scale=0.3, zeros=False)
    got = graphc.compile(graph, precision="bf16").run({n: a[None, None] for n, a in zip("qkv", (q, k, v))})["y"][0, 0]
    scores = np.exp(0.3 * rounded(q) @ rounded(k).T)
    weights = scores / scores.sum(1, keepdims=True)
    error = np.abs(got - rounded(weights) @ rounded(v))
    assert error.max() <= ROUNDED * weights.max() * 2 + 4e-6
    assert np.median(error) < 2e-6 and np.median(np.abs(got - weights @ rounded(v))) > 1e-4

"""Random networks of feature maps on every instruction set, with several numbers of threads; also step by step."""

from __future__ import annotations

import numpy as np
import pytest
from blocked_nets import Net, feeds_of
from targets import require

import graphc

TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]


def check(seed: int, large: bool, target: str, threads: int) -> None:
    require(target)
    graph = Net(seed, large).build()
    feeds = feeds_of(graph)
    want = graphc.compile(graph, target="reference").run(feeds)
    got = graphc.compile(graph, target=target, threads=threads).run(feeds)
    for name, w in want.items():
        # Winograd's error grows with each layer; a value from another place is off by the scale itself
        np.testing.assert_allclose(
            got[name], w, rtol=0, atol=2e-3 * np.abs(w).max() + 1e-6, err_msg=f"net {seed}, {name}"
        )


@pytest.mark.parametrize("target", TARGETS)
def test_small(target: str):
    for seed in range(12):
        check(seed, False, target, 1 + seed % 2)


@pytest.mark.parametrize("target", TARGETS)
def test_image_by_image(target: str):
    for seed in range(2):
        check(seed, True, target, 1 + seed % 3)


@pytest.mark.parametrize("target", TARGETS)
def test_step_by_step(target: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    for seed in range(25, 31):
        check(seed, False, target, 1 + seed % 2)
    check(3, True, target, 3)


@pytest.mark.slow
@pytest.mark.parametrize("checks", ["", "memory"])
@pytest.mark.parametrize("target", TARGETS)
def test_many(target: str, checks: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", checks)
    for seed in range(100, 250):
        check(seed, False, target, 1 + seed % 3)
    for seed in range(100, 115):
        check(seed, True, target, 1 + seed % 3)

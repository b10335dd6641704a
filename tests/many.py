"""Models for many sizes beside fresh ones, whose plans are for one shape each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

import graphc
from graphc import classes
from graphc.graph import Graph


def agree(graph: Graph, feeds: Sequence[Mapping[str, np.ndarray]], most: int, **options: object) -> set[str]:
    """Bit by bit, with at most so many plans for many sizes beside the first one. The kernels of the last plan."""
    model = graphc.compile(graph, cache=False, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classes, "STRICT", True)
        for given in feeds:
            got, want = model.run(given), graphc.compile(graph, cache=False, **options).run(given)
            for name, w in want.items():
                np.testing.assert_array_equal(got[name], w, f"{name} of {[a.shape for a in given.values()]}")
    assert len(model._plans) == 1 and 1 <= len(model._many) <= most, (len(model._plans), len(model._many))
    return {s.kernel for s in model.plan(None, feeds[-1]).steps}


def images(rng: np.random.Generator, count: int, channels: int, rank: int, low: int = 4, high: int = 30) -> list:
    """Feeds of one input 'x' [1, channels, *spatial], of random sizes that all differ."""
    sizes = [(low + 3 * i + rng.permutation(rank) * 7) % (high - low) + low for i in range(count)]
    return [{"x": rng.standard_normal((1, channels, *s.tolist()), dtype=np.float32)} for s in sizes]

"""Every example that has a twin gives what the twin gives, with the same weights and inputs.

The twin computes in float64. The example's graph in float64, run by the reference, is to agree up to rounding, so that a
wrong constant, an eps say, is seen; compiled, in float32, it keeps what graphc promises: 1e-4 of a result's scale.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import numpy as np
import pytest
from twins.registry import TWINS, Twin
from widened import widened
from zoo import feeds_of, page

import graphc
from graphc.backends.reference import run
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Graph

torch = pytest.importorskip("torch", reason="twins are written in PyTorch: pip install '.[twins]'")
pytest.importorskip("sklearn", reason="some twins are written in scikit-learn: pip install '.[twins]'")

from twins.loading import give, weights_of  # noqa: E402  PyTorch is there

pytestmark = pytest.mark.slow


def compute(name: str, twin: Twin, graph: Graph, feeds: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]):
    """The twin's results, in float64."""
    module = getattr(importlib.import_module(f"twins.{twin.family}"), name)(**twin.params)
    arrays = [a.astype(np.float64) if a.dtype == np.float32 else a for a in (*feeds.values(), *drawn.values())]
    if not isinstance(module, torch.nn.Module):
        return module({n: a.astype(np.float64) for n, a in weights_of(graph).items()}, *arrays)
    give(module, weights_of(graph))
    with torch.no_grad():
        results = module.double().eval()(*map(torch.from_numpy, arrays))
    return [r.numpy() for r in (results if isinstance(results, tuple) else (results,))]


@pytest.mark.parametrize("name", TWINS)
def test_an_example_is_its_twin(name: str):
    twin = TWINS[name]
    graph = loads_yaml(page(name, twin.image), twin.params)
    feeds = feeds_of(graph, {"batch": 2} | dict(twin.sizes), np.random.default_rng(0))
    found = graphc.compile(graph).run(feeds)
    wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feeds.items()}
    exact = run(widened(graph), wide)
    theirs = compute(name, twin, graph, feeds, {n: exact[n] for n in twin.given})
    assert len(theirs) == len(exact)
    for (key, ours), other in zip(exact.items(), theirs):
        assert ours.shape == other.shape, key
        scale = abs(other).max()
        assert np.isfinite(scale) and scale > 0 and other.std() > 0, "such a result tells nothing"
        assert abs(ours - other).max() <= twin.exact * scale, f"{key}: {abs(ours - other).max() / scale} in float64"
        np.testing.assert_allclose(found[key], other, rtol=0, atol=1e-4 * scale, err_msg=key)

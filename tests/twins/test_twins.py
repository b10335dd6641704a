"""Every example that has a twin gives what the twin gives, with the same weights and inputs.

The twin computes in float64. The example's graph in float64, run by the reference, is to agree up to rounding, so that a
wrong constant, an eps say, is seen; compiled, in float32, it keeps what graphc promises: 1e-4 of a result's scale.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from widened import widened
from zoo import feeds_of, page

import graphc
from graphc.backends.reference import run
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Graph
from twins.registry import TWINS

torch = pytest.importorskip("torch", reason="twins are written in PyTorch: pip install '.[twins]'")
pytest.importorskip("sklearn", reason="some twins are written in scikit-learn: pip install '.[twins]'")

from twins.loading import give, weights_of  # noqa: E402  PyTorch is there

pytestmark = pytest.mark.slow


def build(name: str) -> Any:
    how = TWINS[name]
    with torch.device("meta"):  # weights are not drawn, as those of the example take their place
        return getattr(importlib.import_module(f"twins.{how.family}"), name)(**how.params)


def compute(twin: Any, graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray | None]:
    """The twin's results, in float64; None for what it does not tell."""
    arrays = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
    if not isinstance(twin, torch.nn.Module):
        return list(twin({n: a.astype(np.float64) for n, a in weights_of(graph).items()}, *arrays))
    give(twin.double().to_empty(device="cpu"), weights_of(graph))
    with torch.no_grad():
        results = twin.eval()(*map(torch.from_numpy, arrays))
    return [r.numpy() for r in (results if isinstance(results, tuple) else (results,))]


@pytest.mark.parametrize("name", TWINS)
def test_an_example_is_its_twin(name: str):
    how = TWINS[name]
    twin = build(name)
    graph = loads_yaml(page(name, how.image), how.params)
    random = np.random.default_rng(0)
    feeds = twin.feeds() if hasattr(twin, "feeds") else feeds_of(graph, {"batch": 2} | dict(how.sizes), random)
    found = graphc.compile(graph).run(feeds)
    exact = run(widened(graph), {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feeds.items()})
    theirs = compute(twin, graph, [*feeds.values(), *(exact[n] for n in how.given)])
    assert len(theirs) == len(exact)
    for (key, ours), other in zip(exact.items(), theirs):
        if other is None:
            continue
        assert ours.shape == other.shape == found[key].shape, key
        assert np.isfinite(other).all() and np.ptp(other) + (other.size == 1) > 0, "such a result tells nothing"
        if ours.dtype.kind != "f":
            np.testing.assert_array_equal(ours, other, key)
            np.testing.assert_array_equal(found[key], other, key)
            continue
        scale = abs(other).max()
        assert abs(ours - other).max() <= how.exact * scale, f"{key}: {abs(ours - other).max() / scale} in float64"
        np.testing.assert_allclose(found[key], other, rtol=0, atol=1e-4 * scale, err_msg=key)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("vit_b16", "eps: 1.0e-6", "eps: 1.0e-5"),
        ("mobilenet_v3", "eps: 0.001", "eps: 0.0011"),
        ("gpt2", "{gelu: tanh}", "gelu"),
        ("transformer", "sqrt($width)", "sqrt($width + 0.01)"),
    ],
)
def test_a_small_mistake_is_seen(name: str, right: str, wrong: str):
    """The bound in float64 tells constants apart that float32's would not."""
    how, text = TWINS[name], page(name, TWINS[name].image)
    assert right in text
    graph = loads_yaml(text.replace(right, wrong), how.params)
    feeds = feeds_of(graph, {"batch": 1} | dict(how.sizes), np.random.default_rng(0))
    wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feeds.items()}
    (ours,) = run(widened(graph), wide).values()
    (theirs,) = compute(build(name), graph, list(feeds.values()))
    assert abs(ours - theirs).max() > 10 * how.exact * abs(theirs).max()

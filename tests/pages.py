"""Pages of examples/zoo: loaded, with the weights they have, and run as they are compiled by default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import graphc
from graphc.backends.reference import run
from graphc.frontends.yaml_load import load_yaml
from graphc.graph import Graph

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "zoo"
Arrays = dict[str, np.ndarray]


def page(name: str, given: Mapping[str, np.ndarray] | None = None, folder: Path | None = None, **params: Any) -> Graph:
    """given: the weights, by their names, from a file in `folder`; else they are drawn."""
    if given is None or folder is None:
        return load_yaml(EXAMPLES / f"{name}.yaml", params)
    np.savez(folder / "w.npz", **{k: np.asarray(v, np.float32) for k, v in given.items()})
    (folder / f"{name}.yaml").write_text((EXAMPLES / f"{name}.yaml").read_text("utf-8") + "weights: {file: w.npz}\n")
    return load_yaml(folder / f"{name}.yaml", params)


WEIGHT = re.compile(r"(weight|bias|value|running_mean|running_var|peephole|l\d+\.[wrbp])$")


def weights(graph: Graph) -> Arrays:
    """By name, those of graphs that operators hold, too; in double precision."""
    held = (a for n in graph.nodes for a in n.attrs.values() if isinstance(a, Graph))
    found = {v.name: v.data.astype(np.float64) for v in graph.constants() if WEIGHT.search(v.name)}
    for inner in held:
        found |= weights(inner)
    return found


def lively(name: str, folder: Path, seed: int, std: float = 1.0, **params: Any) -> Graph:
    """The page with larger weights, so that what it chooses changes from step to step."""
    rng = np.random.default_rng(seed)
    given = {k: rng.normal(0, std, v.shape) for k, v in weights(page(name, **params)).items()}
    return page(name, given, folder, **params)


def compiled(graph: Graph, rtol: float = 1e-4, atol: float = 1e-5, **feeds: Any) -> Arrays:
    """The results, which are the reference's; nothing is left to the host. Tolerances: sums of float32 in another order."""
    arrays = {v.name: np.asarray(feeds[v.name], v.dtype) for v in graph.inputs}
    model = graphc.compile(graph)
    found = model.run(arrays)
    steps = [s for plan in model._plans.values() for s in plan.plan.steps]
    assert steps and not [(s.label, s.reason) for s in steps if s.host]
    for key, want in run(graph, arrays).items():
        assert found[key].dtype == want.dtype
        np.testing.assert_allclose(found[key], want, rtol=rtol, atol=atol, err_msg=key)
    return found


def described(name: str, parameters: int) -> Graph:
    """The page with its default params: its comment says how many parameters it has, and nothing in it is unused."""
    graph = page(name)
    assert graph.meta["parameters"] == parameters
    assert graph.meta["warnings"] == ()
    text = (EXAMPLES / f"{name}.yaml").read_text("utf-8")
    assert f"{parameters:,} parameter" in text, "the comment says another number"
    return graph

"""Results on a GPU against others: every operator's samples against its reference, examples against the CPU backend."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gpu_cases import EXAMPLES
from gpu_engines import difference

import graphc
from graphc.backends.cuda.lower.registry import RULES, load_lowerings
from graphc.errors import UnsupportedError
from graphc.frontends.yaml_load import load_yaml
from graphc.graph import Graph

TESTS = Path(__file__).resolve().parent.parent / "tests"
SIZES = {"batch": 2, "steps": 20}  # of what examples leave open
SMALL = ("lenet5", "mlp", "gru_classifier")
FEW = ("Add", "ArgMax", "Concat", "Conv", "LSTM", "LayerNormalization", "MatMul", "MaxPool", "Softmax", "Transpose")
KEPT = 20_000  # elements of a result that are compared with those that were carried
TOLERANCE = 1e-4  # of the largest element: float32 in another order of sums
DIGEST = "weights and inputs"


def operators(small: bool) -> list[str]:
    """Those that have a CUDA kernel."""
    from graphc.op import all_ops

    load_lowerings()
    return [
        n
        for n, op in sorted(all_ops().items())
        if (op.elementwise or n in RULES.operators()) and (not small or n in FEW)
    ]


def samples(name: str) -> Iterator[Any]:
    """Uses of an operator, as the tests have them: every case, and the first one in every dtype."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    from suite import OPS, as_inputs, uses_of

    from graphc.testing import cases, use_of

    op = OPS[name]
    yield from uses_of(name)
    for dtype in op.samples.dtypes[1:]:
        yield as_inputs(use_of(op, cases(op)[0], dtype, seed=1))


def check_operator(name: str, target: str) -> dict[str, Any]:
    """How many samples agree with the reference; what the first others say."""
    found: dict[str, Any] = {"samples": 0, "refused": 0, "wrong": []}
    for use in samples(name):
        from suite import check

        try:
            check(use, target)
            found["samples"] += 1
        except UnsupportedError as error:
            if error.op is None:
                raise  # no compilers, for a kernel that was not prepared
            found["refused"] += 1
        except AssertionError as error:
            found["wrong"].append(" ".join(str(error).split())[:300])
    return found


# --- examples -----------------------------------------------------------------------------------------------------------
def examples(small: bool) -> list[str]:
    return [p.stem for p in sorted(EXAMPLES.glob("*.yaml")) if not small or p.stem in SMALL]


def of_example(name: str) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph and its inputs."""
    graph, rng, feeds = load_yaml(EXAMPLES / f"{name}.yaml"), np.random.default_rng(2), {}
    for v in graph.inputs:
        shape = tuple(d if isinstance(d, int) else SIZES[str(d)] for d in v.shape)
        feeds[v.name] = rng.random(shape, np.float32) if v.dtype.kind == "f" else rng.integers(0, 2, shape)
    return graph, feeds


def shapes_of(feeds: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: a.shape for name, a in feeds.items()}


def expected(name: str) -> dict[str, np.ndarray]:
    """By the CPU backend: a part of each result, and a digest of what they were computed of."""
    graph, feeds = of_example(name)
    results = graphc.compile(graph, target="cpu").run(feeds)
    kept = {f"{name}/{n}": _part(a) for n, a in results.items()}
    return kept | {f"{name}/{DIGEST}": np.frombuffer(_digest(graph, feeds), np.uint8)}


def check_example(name: str, target: str, carried: Path) -> dict[str, Any]:
    graph, feeds = of_example(name)
    with np.load(carried) as known:
        if known[f"{name}/{DIGEST}"].tobytes() != _digest(graph, feeds):
            return {"note": "NumPy makes other random weights here than where results were prepared"}
        want = [known[f"{name}/{n}"] for n in graph.output_names]
    results = graphc.compile(graph, target=target, shapes=shapes_of(feeds)).run(feeds)
    found = difference([_part(a) for a in results.values()], want)
    return {"difference": found, "wrong": [] if found < TOLERANCE else [f"differs from the CPU by {found:.1e}"]}


def _part(a: np.ndarray) -> np.ndarray:
    return a.reshape(-1)[:: max(1, a.size // KEPT)]


def _digest(graph: Graph, feeds: dict[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for a in [*(v.data for v in graph.constants()), *feeds.values()]:
        digest.update(np.ascontiguousarray(a).reshape(-1).view(np.uint8))
    return digest.digest()

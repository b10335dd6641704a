"""Checks of one pass on one graph: the invariants hold, the meaning stays, and what is left of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphc.bind import bind
from graphc.graph import Builder, Graph, Value
from graphc.interpret import interpret
from graphc.passes.log import Log
from graphc.verify import verify

F32 = np.dtype("float32")
BATCH = 2


def feeds(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs; symbolic dims become BATCH."""
    rng = np.random.default_rng(seed)
    shapes = {v.name: [d if isinstance(d, int) else BATCH for d in v.shape] for v in graph.inputs}
    return {v.name: rng.uniform(-1, 1, shapes[v.name]).astype(v.dtype) for v in graph.inputs}


def build(make: Callable[[Builder], Value | Sequence[Value]]) -> Graph:
    """The graph whose results `make` gives."""
    b = Builder("test")
    results = make(b)
    results = [results] if isinstance(results, Value) else list(results)
    return b.build({f"y{i}": v for i, v in enumerate(results)})


def image(b: Builder, *shape, name: str = "x") -> Value:
    return b.input(name, F32, shape or (2, 4, 6, 6))


def weights(b: Builder, *shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> Value:
    return b.constant(np.random.default_rng([seed, *shape]).uniform(low, high, shape), F32)


def ints(b: Builder, *numbers: int) -> Value:
    return b.constant(numbers, np.int64)


def bound(graph: Graph) -> Graph:
    """With BATCH in the place of symbolic dims."""
    types = {v.name: v.type.with_shape([d if isinstance(d, int) else BATCH for d in v.shape]) for v in graph.inputs}
    return bind(graph, types)


def same_results(before: Graph, after: Graph) -> None:
    """Both graphs have one signature and give the same results for random inputs."""
    assert before.output_names == after.output_names
    assert [v.name for v in before.inputs] == [v.name for v in after.inputs]
    want, got = interpret(before, feeds(before)), interpret(after, feeds(before))
    for name, a in want.items():
        same_arrays(a, got[name], name)


def same_arrays(want: np.ndarray, got: np.ndarray, what: str) -> None:
    """Equal; floats up to 1e-4 of the largest."""
    assert got.dtype == want.dtype and got.shape == want.shape, what
    if want.dtype.kind == "f":
        scale = max(1.0, np.abs(want[np.isfinite(want)]).max(initial=0))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * scale, err_msg=what)
    else:
        np.testing.assert_array_equal(got, want, err_msg=what)


def rewritten(pass_, graph: Graph, log: Log | None = None) -> Graph:
    """The graph after the pass, verified and compared with the graph before it; the graph given stays as it is."""
    text = str(graph)
    after = pass_(graph, log)
    verify(after, pass_.name)
    assert str(graph) == text
    same_results(graph, after)
    return after


def left(pass_, graph: Graph) -> list[str]:
    """Names of the operators that the pass leaves."""
    return [n.op.name for n in rewritten(pass_, graph).nodes]


def refused(pass_, graph: Graph) -> str:
    """Why the pass left the graph as it was."""
    log = Log()
    assert rewritten(pass_, graph, log) is graph
    assert not log.applied()
    return "; ".join(e.reason for e in log.refused())

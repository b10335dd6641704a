"""A graph on targets, against the references of its operators and against ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc.cli.difference import allowed, error_of, told
from graphc.cli.rounding import OWN, drift
from graphc.compiler import load
from graphc.graph import Graph
from graphc.testing.files import FOLDER, write_graph
from graphc.testing.graphs import Net

Results = list[np.ndarray]


def agree(
    graph: Net | Graph | str | os.PathLike[str],
    against: str | Sequence[str] = ("reference", "onnxruntime"),
    targets: str | Sequence[str] = ("cpu",),
    *,
    feeds: Mapping[str, np.ndarray] | None = None,
    tolerance: float = 1e-4,
    folder: str | Path | None = FOLDER,
    **options: Any,
) -> tuple[str, ...]:
    """Run a graph, or the model of a file, on each target, and compare its results with those of others: 'reference' (NumPy) and 'onnxruntime'.

    feeds: inputs by name [default: those of the Net; of a Graph random ones, as `graphc run` makes them]. tolerance: over a result's
    scale. What rounding explains is no difference: by how much results move when every number moves by some units in the last place.
    folder: where the model and its inputs are written when they differ; None: nowhere. options: of `graphc.compile`.

    Gives those that it was compared with: ONNX Runtime is left out where it refuses the model, or lacks an operator, and who needs
    it asserts that it is there. Raises AssertionError that says where results differ, and GraphcError where a target does not take
    the graph. Needs the package onnxruntime for 'onnxruntime'.
    """
    import graphc

    against, targets = ((given,) if isinstance(given, str) else given for given in (against, targets))
    unknown = [name for name in against if name not in PEERS]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is nothing to compare with; one of {', '.join(PEERS)}")
    if isinstance(graph, (str, os.PathLike)):
        graph = load(graph)
    net = graph if isinstance(graph, Net) else Net(graph, _random(graph) if feeds is None else feeds)
    named = net.feeds if feeds is None else feeds
    missing = [v.name for v in net.graph.inputs if v.name not in named]
    if missing:
        raise ValueError(f"feeds has no '{missing[0]}': the inputs are {', '.join(v.name for v in net.graph.inputs)}")
    given = {v.name: np.asarray(named[v.name]) for v in net.graph.inputs}
    wanted = {name: w for name in against if (w := PEERS[name](net.graph, given)) is not None}
    moved: dict[str, float] = {}
    for target in targets:
        found = list(graphc.compile(net.graph, target=target, **options).run(given).values())
        for name, want in wanted.items():
            wrong = _differing(found, want, tolerance, {})
            if wrong and not moved:
                moved = _moved(net.graph, given)
            for i in _differing(found, want, tolerance, dict(enumerate(moved.values()))) if wrong else ():
                said = f"result {net.graph.output_names[i]}: {told(found[i], want[i])}"
                text = f"{target} does not agree with {name}\n{Net(net.graph, given)}\n  {said}"
                raise AssertionError(
                    text if folder is None else f"{text}\n  {write_graph(net.graph, given, Path(folder), target)}"
                )
    return tuple(wanted)


def _differing(got: Results, want: Results, tolerance: float, moved: Mapping[int, float]) -> list[int]:
    return [
        i
        for i, (a, w) in enumerate(zip(got, want))
        if error_of(a, w) > max(allowed(w, tolerance), OWN * moved.get(i, 0.0))
    ]


def _moved(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far the results of NumPy move by rounding, over their scales."""
    from graphc.backends.reference import trace

    traced = trace(graph, feeds)
    moved = drift(graph, feeds, traced.values, lambda text: None)
    return {n: moved.get(v, 0.0) for n, v in zip(graph.output_names, graph.outputs)}


def _random(graph: Graph) -> dict[str, np.ndarray]:
    from graphc.cli.feeds import make_feeds

    return make_feeds(graph.inputs, (), {}, None, 0, False)


def _reference(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Results:
    from graphc.interpret import interpret

    with np.errstate(all="ignore"):
        return list(interpret(graph, feeds).values())


def _onnxruntime(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Results | None:
    """None where it does not take the graph: ONNX has no form for it, or ONNX Runtime no kernel."""
    import onnxruntime

    from graphc.errors import GraphcError
    from graphc.frontends.onnx_export import to_onnx

    domains = {n.op.name.rpartition("::")[0] for n in graph.nodes if n.op.name.startswith("com.microsoft::")}
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        model = to_onnx(graph, domains=domains).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(feeds)))
    except GraphcError:
        return None
    except Exception as error:  # it has a class for each kind of refusal, and none for all of them
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise


PEERS: Mapping[str, Callable[[Graph, Mapping[str, np.ndarray]], Results | None]] = {
    "reference": _reference,
    "onnxruntime": _onnxruntime,
}

"""From a graph to a smaller one and its report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc import pipeline
from graphc.errors import InputError, UnsupportedError
from graphc.graph import Graph
from graphc.quantizer.driver import BATCH, require_float
from graphc.quantizer.feeds import batches
from graphc.quantizer.layers import kept_by_name
from graphc.quantizer.noise import noises
from graphc.quantizer.running import Progress, Runner, silent
from graphc.shrinker.layers import layers_of, size_of
from graphc.shrinker.methods import Method
from graphc.shrinker.report import Report, Step

if TYPE_CHECKING:
    from graphc import ModelProto


@dataclass(frozen=True)
class ShrunkModel:
    """graph: what `graphc.compile` takes; report: what became of each layer."""

    graph: Graph
    report: Report

    def to_onnx(self) -> ModelProto:
        """As an ONNX model of standard operators."""
        from graphc.frontends.onnx_export import to_onnx

        return to_onnx(self.graph)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as an ONNX file."""
        data = self.to_onnx().SerializeToString()
        with open(path, "wb") as file:
            file.write(data)


def shrink(
    graph: Graph,
    methods: Sequence[Method],
    data: Any = None,
    *,
    keep: Sequence[str] = (),
    batch: int = BATCH,
    samples: int | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ShrunkModel:
    """See `graphc.shrink`. methods: one after the other; options: of `graphc.compile`, for the runs over the data."""
    require_float(graph, "make the model in float smaller that it was made of")
    graph = pipeline.run(graph, pipeline.PORTABLE)
    layers = layers_of(graph)
    if not layers:
        raise UnsupportedError(
            "the model has nothing to make smaller: no convolutions or products of matrices by constant weights in float32"
        )
    kept = {n.output.name for n in kept_by_name(layers, keep, "made smaller")}
    if len(kept) == len(layers):
        raise InputError("every layer that could be made smaller is kept", hint="keep fewer")
    runner, count, expected = None, 0, []
    if data is not None:
        feeds, count = batches(data, graph.inputs, batch, samples)
        runner = Runner(feeds, options or {}, progress or silent)
        expected = list(runner.values(graph, graph.outputs, "results before"))
    before, steps = _size(graph), []
    for method in methods:
        graph, rows = method(graph, kept)
        error = None
        if runner is not None:
            found = noises(expected, runner.values(graph, graph.outputs, "errors of results"))
            error = max((noise.relative for noise in found), default=0.0)
        steps.append(Step(str(method), rows, _size(graph), error))
    return ShrunkModel(graph, Report(before, tuple(steps), count))


def _size(graph: Graph) -> int:
    """Bytes of constants in an ONNX file."""
    return sum(size_of(v) for v in graph.constants())

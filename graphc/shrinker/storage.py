"""Weights in another form: what a layer reads becomes a constant that standard operators decode."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from graphc.graph import Graph, Node, Value
from graphc.passes.rewrite import remove_dead
from graphc.quantizer.placement import weight_axis
from graphc.shrinker.layers import NOT_FINITE, Rebuilt, is_finite, layers_of, relative_error, size_of, weights_of
from graphc.shrinker.report import LayerReport


@dataclass(frozen=True)
class Stored:
    """floats: what the weights are afterwards; made: how, in a few words; size: bytes in an ONNX file; coded: bytes in compressed
    storage; build: makes the value that a layer reads, whose nodes' names begin with a stem."""

    floats: np.ndarray
    made: str
    size: int
    coded: int | None
    build: Callable[[Rebuilt, str], Value]


Form = Callable[[np.ndarray, int], Stored]


def stored(graph: Graph, keep: Collection[str], form: Form) -> tuple[Graph, tuple[LayerReport, ...]]:
    """The graph with the weights of its layers in this form, where that takes less. form: of weights and the axis of their output
    channels. Weights that several layers read are stored once; all their bytes are the first's."""
    sweep, reports = Rebuilt(graph), []
    layers = set(layers_of(graph, keep))
    known: dict[tuple[Value, int], tuple[Value, LayerReport]] = {}
    for node in graph.nodes:
        if node not in layers:
            sweep.copy(node)
            continue
        weights, axis = weights_of(node), weight_axis(node)
        again = (weights, axis) in known
        if not again:
            known[weights, axis] = _replaced(sweep, node, form)
        value, report = known[weights, axis]
        if again:
            report = LayerReport(node.name, node.op.name, report.made, report.kept, report.error)
        reports.append(report)
        new = sweep.remake(node, sweep(node.inputs[0]), value, *(sweep(v) for v in node.inputs[2:]))
        sweep.stands_for(node.output, new)
    return remove_dead(sweep.finish()), tuple(reports)


def _replaced(sweep: Rebuilt, node: Node, form: Form) -> tuple[Value, LayerReport]:
    weights = weights_of(node)
    before = size_of(weights)
    if not is_finite(node):
        return weights, LayerReport(node.name, node.op.name, kept=NOT_FINITE, bytes=(before, before))
    new = form(weights.data, weight_axis(node))
    least = new.size if new.coded is None else min(new.size, new.coded)
    if least >= before:
        return weights, LayerReport(node.name, node.op.name, kept="it would take no less", bytes=(before, before))
    error = relative_error(weights.data, new.floats)
    report = LayerReport(node.name, node.op.name, new.made, "", error, (before, new.size), new.coded)
    return new.build(sweep, weights.name), report

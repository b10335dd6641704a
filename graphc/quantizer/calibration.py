"""Ranges of a graph's values over data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.errors import InputError
from graphc.graph import Graph, Value
from graphc.quantizer.ranges import EMPTY, Histogram, Range, found_range
from graphc.quantizer.running import Runner
from graphc.quantizer.scheme import Scheme


def calibrated(graph: Graph, values: Sequence[Value], runner: Runner, scheme: Scheme) -> dict[Value, Range]:
    """The range of each value, by the scheme's method.

    Raises InputError where one is NaN or infinite over the data.
    """
    extremes = dict.fromkeys(values, EMPTY)
    for arrays in runner.values(graph, values, "ranges"):
        for v, x in zip(values, arrays):
            if not np.isfinite(x).all():
                raise InputError(
                    f"'{v.name}' is NaN or infinite over this data, and has no range", hint=_kept(graph, v)
                )
            extremes[v] = extremes[v].joined(x)
    extremes = {v: r if r.is_finite else Range(0, 0) for v, r in extremes.items()}  # of values without elements
    if scheme.method == "minmax":
        return extremes
    histograms = {v: Histogram(r) for v, r in extremes.items()}
    for arrays in runner.values(graph, values, "histograms"):
        for v, x in zip(values, arrays):
            histograms[v].add(x)
    return {v: found_range(h, scheme) for v, h in histograms.items()}


def _kept(graph: Graph, v: Value) -> str:
    near = [n.name for n in graph.nodes if v in n.operands or v in n.outputs]
    return f"look at the data, or keep what makes and reads it in float: {', '.join(f'--keep {n}' for n in near[:3])}"

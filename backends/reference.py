"""Runs any graph in NumPy, node by node, through the operators' references: the oracle of every other backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphc.graph import Graph, Value
from graphc.interpret import interpret


def run(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's results by output name, for inputs by name.

    Raises InputError for wrong names, dtypes or shapes, and GraphcError naming the node that fails.
    """
    return interpret(graph, feeds)


@dataclass(frozen=True)
class Trace:
    """Results by output name, and everything that was computed on the way by its Value."""

    outputs: dict[str, np.ndarray]
    values: dict[Value, np.ndarray]


def trace(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Trace:
    """As `run`, with the result of every node recorded; takes the memory of all of them.

    Of If, Loop and Scan only the results are recorded. Raises what `run` raises.
    """
    values = tuple(v for node in graph.nodes for v in node.outputs)
    names = tuple(f"{i}" for i in range(len(values)))
    everything = interpret(replace(graph, outputs=values, output_names=names), feeds)
    recorded = {v: everything[n] for v, n in zip(values, names)}
    known = {v: np.asarray(feeds[v.name]) for v in graph.inputs} | recorded
    outputs = {n: v.data if v.is_const else known[v] for n, v in zip(graph.output_names, graph.outputs)}
    return Trace(outputs, recorded)

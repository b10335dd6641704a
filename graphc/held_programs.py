"""Graphs that a Loop or Scan holds and that no single program runs, as one whose shapes change from trip to trip: the trips are
counted here, and each is a run of compiled plans, which are made as shapes turn up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from graphc.bind import bind
from graphc.classes import CantServeMany
from graphc.errors import GraphcError
from graphc.executable import Executable, taken
from graphc.graph import Graph, Node
from graphc.interpret import run_graph
from graphc.objects import is_object
from graphc.segmented import Plans
from graphc.sizes import is_size_array

# (graph, its inputs, those whose values decide shapes, for them alone?) -> an executable, and whether it is for many shapes
Bind = Callable[[Graph, Sequence[np.ndarray], Sequence[int], bool], tuple[Executable, bool]]
Wanted = Callable[[Graph], Collection[str]]  # inputs whose values decide shapes or branches

FEW = 8  # plans of a graph that are made without asking whether it is worth it
MANY_NODES = 8  # of small operators: the references of fewer take less time than to find a plan


class HeldPrograms:
    """Runs the graphs of one node: compiled, or through their references where that is not possible, or where hardly two trips
    are alike."""

    def __init__(self, node: Node, plan: Bind, wanted: Wanted) -> None:
        graphs = {id(g): _with_constants(node, g) for g in node.attrs.values() if isinstance(g, Graph)}
        self._plans = {key: plans_of(g, plan, wanted) for key, g in graphs.items()}
        self._runs = 0
        self._compiled = any(map(_is_work, graphs.values()))

    def __call__(self, graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        plans = self._plans.get(id(graph))
        if plans is None or not self._compiled or any(is_object(v.type) for v in graph.inputs):
            return run_graph(graph, arrays, strict=False)
        values = taken([np.asarray(a, order="C") for a in arrays], plans.valued)
        self._runs += 1
        try:
            plan = plans.of(values)
        except GraphcError:  # whose words are about the graph alone: those of its reference tell the trip
            self._compiled = False
            return run_graph(graph, arrays, strict=False)
        if plans.made > max(FEW, self._runs // 4):
            self._compiled = False
        try:
            return plan.run(values)
        except CantServeMany:
            if not plans.give_up_many():
                raise
            return plans.of(values).run(values)


def plans_of(graph: Graph, plan: Bind, wanted: Wanted) -> Plans:
    """Those of one graph."""
    names = wanted(graph)
    valued = [i for i, v in enumerate(graph.inputs) if v.name in names]
    return Plans(valued, lambda values, alone: plan(graph, values, valued, alone))


def _with_constants(node: Node, graph: Graph) -> Graph:
    """The held graph, in which what it captures and is a constant is one."""
    attrs, n = node.attrs, node.attrs.get("n_states", 0)
    formal = {"Loop": 2 + n, "Scan": n + attrs.get("num_scan_inputs", 0)}.get(node.op.name, 0)
    captures = node.inputs[len(node.inputs) - len(graph.inputs) + formal :]
    named = zip(graph.inputs[formal:], captures)
    known = {v.name: x.data for v, x in named if x is not None and x.is_const and not is_size_array(x.data)}
    return bind(graph, {}, known) if known else graph


def _is_work(graph: Graph) -> bool:
    """Is there enough to do for a run of a plan?"""
    return len(graph.nodes) >= MANY_NODES or any(n.op.macs is not None or n.op.holds_graphs for n in graph.nodes)

"""Graphs whose shapes or branches follow from data (NonZero, NonMaxSuppression, Loop, If …): run what is known, look, go on.

A bound graph is cut into a static *prefix* of nodes whose types are all known, *data-dependent* nodes, the shapes of whose
results only running can tell, and the *suffix* behind them. The suffix is a graph of its own with the values so far as its
inputs: binding it knows their shapes, and their values where they decide shapes. It may be cut again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, repeat
from typing import Any

import numpy as np

from graphc.attrs import Attrs
from graphc.bounded import Bounded, bounded
from graphc.bundles import is_bundle
from graphc.classes import CantServeMany
from graphc.errors import GraphcError
from graphc.executable import Executable
from graphc.facts import graph_with_facts
from graphc.graph import Graph, Node, Rewriter, Value
from graphc.held_programs import Bind, HeldPrograms, Wanted, plans_of
from graphc.loop_rows import LoopPart, loop_part
from graphc.objects import ObjectType
from graphc.report import Pending, StepInfo
from graphc.segmented import Between, Seam, Segmented, Source, is_small
from graphc.sizes import holds_sizes, is_size_array
from graphc.types import TensorType


@dataclass(frozen=True, eq=False)
class CutGraph:
    """The suffix's inputs are the graph's own, then the prefix's results, then the outputs of the bounded nodes and of the
    data-dependent ones. The prefix computes the bounded nodes: their buffers and sizes are its last results."""

    prefix: Graph
    bounded: tuple[Bounded, ...]
    data_dependent: tuple[Node, ...]
    suffix: Graph


Compiled = Callable[[Node], bool]  # do kernels compute a node, whichever branch it takes?


def never(node: Node) -> bool:
    return False


def is_static(graph: Graph, compiled: Compiled = never) -> bool:
    """Is every shape known, and every branch that is not compiled with the others?"""
    known = all(_known(v) for n in graph.nodes for v in n.outputs)
    return known and not any(branches(n, compiled) for n in graph.nodes)


def branches(node: Node, compiled: Compiled = never) -> bool:
    """Does what is planned for it depend on a condition that only running can tell?"""
    if node.op.name != "If" or node.inputs[0].is_const:
        return False
    return not all(map(_known, node.outputs)) or not compiled(node)


def conditions(graph: Graph, compiled: Compiled = never) -> list[str]:
    """Inputs of the graph that decide a branch: there is a program for each value."""
    read = {n.inputs[0] for n in graph.nodes if branches(n, compiled)}
    return [v.name for v in graph.inputs if v in read]


def _known(v: Value) -> bool:
    return v.type is not None and v.type.is_static


def cut(graph: Graph, kernels: Collection[str] = (), compiled: Compiled = never) -> CutGraph:
    """Cut a bound graph that is not static. The prefix may be empty, but not if there are no data-dependent nodes.

    kernels: operators that the backend computes in bounded form (graphc/bounded.py) where they have one."""
    ready: set[Value] = set(graph.inputs)
    prefix: list[Node] = []
    forms: list[Bounded] = []
    data_dependent: list[Node] = []
    suffix: list[Node] = []
    for node in graph.nodes:
        have = all(v.is_const or v in ready for v in node.operands)
        if have and branches(node, compiled):  # a suffix with a known condition has the branch in its place
            suffix.append(node)
        elif have and all(_known(v) for v in node.outputs):
            prefix.append(node)
            ready.update(node.outputs)
        elif have and not _waits_for_a_value(node):
            form = bounded(node) if node.op.name in kernels else None
            if form is None:
                data_dependent.append(node)
            else:
                forms.append(form)
        else:
            suffix.append(node)
    prefix, bundles = _without_last_bundles(prefix, data_dependent)
    suffix = [*bundles, *suffix]
    produced: list[Value] = [v for n in (*(f.node for f in forms), *data_dependent) for v in n.outputs]
    needed_later = {v for n in (*data_dependent, *suffix) for v in n.operands} | set(graph.outputs)
    computed = [v for n in prefix for v in n.outputs if v in needed_later]
    passed = [*graph.inputs, *computed]
    results = [*computed, *(v for f in forms for v in f.static.outputs)]
    nodes = (*prefix, *(f.static for f in forms))
    prefix_graph = Graph(
        f"{graph.name}/prefix", graph.inputs, tuple(results), nodes, tuple(_unique(results)), graph.meta
    )
    inputs = tuple(replace(v, name=n) for v, n in zip((*passed, *produced), _unique([*passed, *produced])))
    rw = Rewriter(Graph("", inputs, (), (), ()))
    rw.map.update(zip((*passed, *produced), inputs))
    for node in suffix:
        rw.copy(node)
    outputs = tuple(rw(v) for v in graph.outputs)
    suffix_graph = replace(graph, name=f"{graph.name}/suffix", inputs=inputs, outputs=outputs, nodes=tuple(rw.nodes))
    return CutGraph(prefix_graph, tuple(forms), tuple(data_dependent), suffix_graph)


def _without_last_bundles(prefix: Sequence[Node], behind: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """The prefix without sequences and optionals that only the suffix reads, and these: it makes them of tensors."""
    read = {v for n in behind for v in n.operands}
    kept: list[Node] = []
    bundles: list[Node] = []
    for node in reversed(prefix):
        if is_bundle(node) and node.output not in read:
            bundles.append(node)
        else:
            kept.append(node)
            read.update(node.operands)
    return kept[::-1], bundles[::-1]


def _waits_for_a_value(node: Node) -> bool:
    """Its type follows from an operand's value, which will be a constant of the suffix."""
    return any(
        i < len(node.inputs) and node.inputs[i] is not None and not node.inputs[i].is_const for i in node.op.values
    )


def _unique(values: Sequence[Value]) -> list[str]:
    names: list[str] = []
    for v in values:
        name, k = v.name, 1
        while name in names:
            name, k = f"{v.name}.{k}", k + 1
        names.append(name)
    return names


class HostNode:
    """A data-dependent node that runs through its reference. held: what runs the graphs that it holds."""

    def __init__(self, node: Node, held: HeldPrograms | None) -> None:
        self.node, self.held = node, held

    @property
    def steps(self) -> Sequence[StepInfo]:
        n, reason = self.node, "the shape of its result follows from data"
        return [StepInfo(0, (n.name,), (n.op.name,), "host", "", reason, n.output.name, host=True)]

    def run(self, operands: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        from graphc.interpret import held_graphs_run_by, run_node

        strict = not holds_sizes([v.type for v in self.node.outputs])
        with held_graphs_run_by(self.held):
            return list(run_node(self.node, operands, strict=strict))[: len(self.node.outputs)]


def segmented(
    parts: CutGraph,
    wanted: Wanted,
    compile_part: Callable[[Graph, int | None], Executable],
    bind: Bind,
    outlook: Callable[[Graph], tuple[Pending, ...]],
    compiled: Compiled = never,
    alone: bool = True,
) -> Segmented:
    """What runs a graph that was cut. wanted: the inputs of a graph whose values decide shapes or branches. compile_part: a program;
    its number, where it is of use on disk, as it is unless a node runs on the host, which would take its graph. bind: a graph,
    its inputs, and which of them these are -> an executable, and whether it is for many shapes. outlook: what will become of the
    suffix's nodes. alone: for these shapes, else for many.

    Raises CantServeMany where a loop that collects rows is to be for many."""
    suffix = parts.suffix
    plans = plans_of(suffix, bind, wanted)
    if not parts.prefix.nodes and not parts.data_dependent and not plans.valued:
        node = suffix.nodes[0]
        raise GraphcError(
            "the shape of its result can't be told, not even by running what comes before it",
            hint="run this model with target='reference' and report it",
            op=node.op.name, node=node.name, source=node.source,
        )  # fmt: skip
    loops = [loop_part(n, compiled) for n in parts.data_dependent]
    if any(loops) and not alone:
        raise CantServeMany("a Loop collects as many rows as its condition says")
    if any(is_size_array(v.data) for n in parts.data_dependent for v in n.operands):
        raise CantServeMany("sizes are the operands of an operator that runs on the host")
    sources = [_sources(parts, n, loop) for n, loop in zip(parts.data_dependent, loops)]
    kept = all(loops) and all(is_small(s) for operands in sources for s in operands)
    number: Iterator[int | None] = count() if kept else repeat(None)
    prefix = compile_part(parts.prefix, next(number))
    nodes: list[Between] = [
        _host_node(n, bind, wanted) if loop is None else loop.of(compile_part(loop.graph, next(number)))
        for n, loop in zip(parts.data_dependent, loops)
    ]
    seam = Seam(len(parts.prefix.inputs), tuple(form.axes for form in parts.bounded), tuple(zip(nodes, sources)))
    return Segmented(prefix, seam, plans, _direct(parts), lambda: outlook(suffix))


def _host_node(node: Node, bind: Bind, wanted: Wanted) -> HostNode:
    if not node.op.holds_graphs:
        return HostNode(node, None)
    graphs = {k: graph_with_facts(a, _without_sizes) for k, a in node.attrs.items() if isinstance(a, Graph)}
    node = replace(node, attrs=Attrs({**node.attrs, **graphs}))
    return HostNode(node, HeldPrograms(node, bind, wanted))


def _without_sizes(fact: Any) -> Any:
    """A fact of a held graph, whose sizes are known to nobody while it runs: types have open dims in their place. Raises
    CantServeMany where the graph computes with them."""
    if not holds_sizes(fact):
        return fact
    if isinstance(fact, ObjectType):
        return replace(fact, of=_without_sizes(fact.of))
    if isinstance(fact, TensorType):
        return fact.with_shape([getattr(d, "expr", d) for d in fact.shape])
    raise CantServeMany("a graph that runs trip by trip computes with sizes")


def _sources(parts: CutGraph, node: Node, loop: LoopPart | None) -> tuple[Source, ...]:
    """Of a data-dependent node's operands."""
    places = {v: i for i, v in enumerate((*parts.prefix.inputs, *parts.prefix.outputs))}
    read = [v if loop is None or loop.reads(i) else None for i, v in enumerate(node.inputs)]
    return tuple(v if v is None else v.data if v.is_const else places[v] for v in read)


def _direct(parts: CutGraph) -> list[int] | None:
    """Where nothing is left to compute: which of the suffix's inputs its results are. None where something is, or where a result
    may be an array of the caller's, a constant, or another result."""
    if parts.suffix.nodes or parts.data_dependent:
        return None
    given = len(parts.prefix.inputs)
    places = {v: i for i, v in enumerate(parts.suffix.inputs) if i >= given}
    found = [places.get(v, -1) for v in parts.suffix.outputs]
    return None if -1 in found or len({*found}) < len(found) else found

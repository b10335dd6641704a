"""Graphs whose shapes or branches follow from data (NonZero, NonMaxSuppression, Loop, If …): run what is known, look, go on.

A bound graph is cut into a static *prefix* of nodes whose types are all known, *data-dependent* nodes, the shapes of whose
results only running can tell, and the *suffix* behind them. The suffix is a graph of its own with the values so far as its
inputs: binding it knows their shapes, and their values where they decide shapes. It may be cut again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc.bounded import Bounded, bounded
from graphc.errors import GraphcError
from graphc.executable import MAX_PLANS, PLANNING, Executable, remember, taken, value_key
from graphc.graph import Graph, Node, Rewriter, Value
from graphc.report import Pending, Plan, StepInfo


@dataclass(frozen=True, eq=False)
class CutGraph:
    """The suffix's inputs are the graph's own, then the prefix's results, then the outputs of the bounded nodes and of the
    data-dependent ones. The prefix computes the bounded nodes: their buffers and sizes are its last results."""

    prefix: Graph
    bounded: tuple[Bounded, ...]
    data_dependent: tuple[Node, ...]
    suffix: Graph


def is_static(graph: Graph) -> bool:
    """Is every shape known, and every branch?"""
    return not any(map(branches, graph.nodes)) and all(_known(v) for n in graph.nodes for v in n.outputs)


def branches(node: Node) -> bool:
    """Does what it computes depend on a condition that only running can tell?"""
    return node.op.name == "If" and not node.inputs[0].is_const


def conditions(graph: Graph) -> list[str]:
    """Inputs of the graph that decide a branch: there is a program for each value."""
    read = {n.inputs[0] for n in graph.nodes if branches(n)}
    return [v.name for v in graph.inputs if v in read]


def _known(v: Value) -> bool:
    return v.type is not None and v.type.is_static


def cut(graph: Graph, kernels: Collection[str] = ()) -> CutGraph:
    """Cut a bound graph that is not static. The prefix may be empty, but not if there are no data-dependent nodes.

    kernels: operators that the backend computes in bounded form (graphc/bounded.py) where they have one."""
    ready: set[Value] = set(graph.inputs)
    prefix: list[Node] = []
    forms: list[Bounded] = []
    data_dependent: list[Node] = []
    suffix: list[Node] = []
    for node in graph.nodes:
        have = all(v.is_const or v in ready for v in node.operands)
        if have and branches(node):  # a suffix with a known condition has the branch in its place
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


def suffix_inputs(parts: CutGraph, inputs: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The suffix's inputs from the graph's and the prefix's results: bounded nodes' results are taken from their buffers, the
    data-dependent ones run here, through their references."""
    from graphc.interpret import run_node

    env: dict[Value, np.ndarray] = dict(zip((*parts.prefix.inputs, *parts.prefix.outputs), (*inputs, *results)))
    buffers = {v for form in parts.bounded for v in form.static.outputs}
    for form in parts.bounded:
        env.update(zip(form.node.outputs, form.results([env[v] for v in form.static.outputs])))
    computed = [a for v, a in zip(parts.prefix.outputs, results) if v not in buffers]
    for node in parts.data_dependent:
        operands = [None if v is None else v.data if v.is_const else env[v] for v in node.inputs]
        env.update(zip(node.outputs, run_node(node, operands)))
    nodes = (*(form.node for form in parts.bounded), *parts.data_dependent)
    produced = [env[v] for n in nodes for v in n.outputs]
    return [np.ascontiguousarray(a) if a.ndim else a for a in (*inputs, *computed, *produced)]


class Segmented(Executable):
    """The static prefix, data-dependent nodes on the host, and a suffix that is bound to the shapes that turn up."""

    def __init__(
        self,
        parts: CutGraph,
        wanted: Collection[str],
        compile_prefix: Callable[[Graph], Executable],
        bind: Callable[[Sequence[np.ndarray], Sequence[int]], tuple[Executable, bool]],
        outlook: Callable[[Graph], tuple[Pending, ...]],
    ) -> None:
        """wanted: the suffix's inputs whose values decide shapes or branches. bind: its inputs, and which of them these are -> an
        executable, and whether it is for many shapes. outlook: what will become of the suffix's nodes."""
        if not parts.prefix.nodes and not parts.data_dependent and not wanted:
            node = parts.suffix.nodes[0]
            raise GraphcError(
                "the shape of its result can't be told, not even by running what comes before it",
                hint="run this model with target='reference' and report it",
                op=node.op.name, node=node.name, source=node.source,
            )  # fmt: skip
        self.parts, self._bind, self._outlook = parts, bind, outlook
        self.prefix = compile_prefix(parts.prefix)
        self._valued = [i for i, v in enumerate(parts.suffix.inputs) if v.name in wanted]
        self._suffixes: dict[tuple, Executable] = {}
        self._many: list[Executable] = []  # the last used first
        self._last: tuple[Executable, list[np.ndarray]] | None = None  # and inputs as its last ones were

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        return self.prefix.holds(arrays)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        values = taken(suffix_inputs(self.parts, arrays, self.prefix.run(arrays)), self._valued)
        return self._suffix(values).run(values, out)

    def _suffix(self, values: Sequence[np.ndarray]) -> Executable:
        """The rest of the graph for these shapes, planned when such turn up first."""
        many = self._many
        for k, found in enumerate(many):
            if found.holds(values):
                if k:
                    self._many = [found, *(e for e in many if e is not found)]
                self._note(found, values)
                return found
        key = (*((a.shape, a.dtype.str) for a in values), *(value_key(values[i]) for i in self._valued))
        suffix = self._suffixes.get(key)
        if suffix is None:
            with PLANNING:
                suffix = next((e for e in self._many if e.holds(values)), None) or self._suffixes.get(key)
                if suffix is None:
                    suffix, for_many = self._bind(values, self._valued)
                    if for_many:
                        self._many = [suffix, *self._many[: MAX_PLANS - 1]]
                    else:
                        remember(self._suffixes, key, suffix)
        self._note(suffix, values)
        return suffix

    def _note(self, suffix: Executable, values: Sequence[np.ndarray]) -> None:
        """For reports. Of inputs that decide nothing by their values, the shape is enough."""
        if self._last is None or self._last[0] is not suffix:
            nothing = [np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in values]
            self._last = suffix, [values[i] if i in self._valued else a for i, a in enumerate(nothing)]

    def refusal(self, arrays: Sequence[np.ndarray]) -> str:
        return self.prefix.refusal(arrays)

    @property
    def plan(self) -> Plan:
        return self._joined(self.prefix.plan)

    def plan_for(self, arrays: Sequence[np.ndarray]) -> Plan:
        return replace(self._joined(self.prefix.plan_for(arrays)), because=self.because)

    def _joined(self, prefix: Plan) -> Plan:
        """The prefix's plan and the data-dependent nodes; then the suffix's, as it last ran, or what can be told of it."""
        steps = list(prefix.steps)
        for node in self.parts.data_dependent:
            reason = "the shape of its result follows from data"
            steps.append(
                StepInfo(len(steps), (node.name,), (node.op.name,), "host", "", reason, node.output.name, host=True)
            )
        if self._last is None:
            pending = self._outlook(self.parts.suffix)
        else:
            executable, values = self._last
            last = executable.plan_for(values)
            steps += [replace(s, index=len(steps) + i) for i, s in enumerate(last.steps)]
            pending = last.pending
        return replace(prefix, steps=tuple(steps), measure=_unmeasured, pending=pending)


def _unmeasured(feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
    raise GraphcError(
        "a model whose shapes follow from data can't be timed step by step",
        hint="time it whole: without --profile, --trace and --picture",
    )

"""Graphs whose shapes or branches follow from data (NonZero, NonMaxSuppression, Loop, If …): run what is known, look, go on.

A bound graph is cut into a static *prefix* of nodes whose types are all known, *data-dependent* nodes, the shapes of whose
results only running can tell, and the *suffix* behind them. The suffix is a graph of its own with the values so far as its
inputs: binding it knows their shapes, and their values where they decide shapes. It may be cut again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.bounded import Bounded, bounded
from graphc.bundles import is_bundle
from graphc.classes import CantServeMany
from graphc.errors import GraphcError
from graphc.executable import Executable, taken
from graphc.graph import Graph, Node, Rewriter, Value
from graphc.held_programs import Bind, HeldPrograms, Plans, Wanted
from graphc.loop_rows import CollectingLoop, collecting_loop
from graphc.objects import own
from graphc.report import Pending, Plan, StepInfo
from graphc.sizes import holds_sizes, is_size_array


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


def suffix_inputs(
    parts: CutGraph,
    inputs: Sequence[np.ndarray],
    results: Sequence[np.ndarray],
    loops: Mapping[Node, CollectingLoop] | None = None,
    held: Mapping[Node, HeldPrograms] | None = None,
) -> list[np.ndarray]:
    """The suffix's inputs from the graph's and the prefix's results: bounded nodes' results are the heads of their buffers, the
    data-dependent ones run here, through their references but for compiled loops."""
    computed = len(results) - sum(len(form.static.outputs) for form in parts.bounded)
    produced: list[np.ndarray] = []
    at = computed
    for form in parts.bounded:
        produced += form.results(results[at : at + len(form.static.outputs)])
        at += len(form.static.outputs)
    if parts.data_dependent:
        produced += _on_the_host(parts, inputs, results, loops or {}, held or {})
    return [*inputs, *results[:computed], *produced]


def _on_the_host(
    parts: CutGraph,
    inputs: Sequence[np.ndarray],
    results: Sequence[np.ndarray],
    loops: Mapping[Node, CollectingLoop],
    held: Mapping[Node, HeldPrograms],
) -> Iterator[np.ndarray]:
    from graphc.interpret import held_graphs_run_by, run_node

    env: dict[Value, np.ndarray] = dict(zip((*parts.prefix.inputs, *parts.prefix.outputs), (*inputs, *results)))
    for node in parts.data_dependent:
        operands = [None if v is None else v.data if v.is_const else env[v] for v in node.inputs]
        if node in loops:
            made = loops[node].run(operands)
        else:
            strict = not holds_sizes([v.type for v in node.outputs])
            with held_graphs_run_by(held.get(node)):
                made = list(run_node(node, operands, strict=strict))
        for a, _ in zip(made, node.outputs):
            yield np.ascontiguousarray(a) if a.ndim else a


class Segmented(Executable):
    """The static prefix, data-dependent nodes on the host, and a suffix that is bound to the shapes that turn up."""

    def __init__(
        self,
        parts: CutGraph,
        wanted: Collection[str],
        compile_prefix: Callable[[Graph], Executable],
        bind: Bind,
        outlook: Callable[[Graph], tuple[Pending, ...]],
        compiled: Compiled = never,
        alone: bool = True,
        values_of: Wanted = lambda graph: (),
    ) -> None:
        """alone: for these shapes, else for many. Raises CantServeMany where a loop that collects rows is to be for many. wanted: the suffix's inputs whose values decide shapes or branches. bind: a
        graph, its inputs, and which of them these are -> an executable, and whether it is for many shapes. values_of: such inputs
        of a held graph. outlook: what will become of the suffix's nodes."""
        if not parts.prefix.nodes and not parts.data_dependent and not wanted:
            node = parts.suffix.nodes[0]
            raise GraphcError(
                "the shape of its result can't be told, not even by running what comes before it",
                hint="run this model with target='reference' and report it",
                op=node.op.name, node=node.name, source=node.source,
            )  # fmt: skip
        self.parts, self._outlook = parts, outlook
        self.prefix = compile_prefix(parts.prefix)
        found = ((n, collecting_loop(n, compiled, compile_prefix)) for n in parts.data_dependent)
        self._loops = {n: loop for n, loop in found if loop is not None}
        if self._loops and not alone:
            raise CantServeMany("a Loop collects as many rows as its condition says")
        if any(is_size_array(v.data) for n in parts.data_dependent for v in n.operands):
            raise CantServeMany("sizes are the operands of an operator that runs on the host")
        self._plans = Plans(parts.suffix, wanted, bind)
        self._valued = self._plans.valued
        self._held = {
            n: HeldPrograms(n, bind, values_of)
            for n in parts.data_dependent
            if n.op.holds_graphs and n not in self._loops
        }
        self._last: tuple[Executable, list[np.ndarray]] | None = None  # and inputs as its last ones were
        self._direct = _direct(parts)

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        return self.prefix.holds(arrays)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        return self.run_on(None, arrays, out)

    def run_on(self, stream: Any, arrays: Sequence[Any], out: Sequence[Any | None] | None = None) -> list[Any]:
        """Inputs on a device stay there; what the prefix makes of them comes to the host, where the rest is planned."""
        if self._direct is not None and stream is None and out is None and {*map(type, arrays)} <= {np.ndarray}:
            results = self.prefix.run(arrays)
            made = suffix_inputs(self.parts, arrays, results)
            return [_own(made[i]) for i in self._direct]
        results = [np.asarray(r) for r in self.prefix.run_on(stream, arrays)]
        values: list[Any] = suffix_inputs(self.parts, [np.asarray(a) for a in arrays], results, self._loops, self._held)
        values[: len(arrays)] = [values[i] if i in self._valued else a for i, a in enumerate(arrays)]
        values = taken(values, self._valued)
        return self._suffix(values).run_on(stream, values, out)

    def _suffix(self, values: Sequence[np.ndarray]) -> Executable:
        """The rest of the graph for these shapes, planned when such turn up first."""
        suffix = self._plans.of(values)
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
            if node in self._loops:
                steps += [replace(s, index=len(steps) + i) for i, s in enumerate(self._loops[node].plan.steps)]
                continue
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


def _direct(parts: CutGraph) -> list[int] | None:
    """Where nothing is left to compute: which of the suffix's inputs its results are. None where something is, or where a result
    may be an array of the caller's, a constant, or another result."""
    if parts.suffix.nodes or parts.data_dependent:
        return None
    given = len(parts.prefix.inputs)
    places = {v: i for i, v in enumerate(parts.suffix.inputs) if i >= given}
    found = [places.get(v, -1) for v in parts.suffix.outputs]
    return None if -1 in found or len({*found}) < len(found) else found


def _own(a: np.ndarray) -> np.ndarray:
    """What shares memory with nothing. An array is copied where it is a small part of a buffer."""
    return a.copy() if a.base is not None and 2 * a.nbytes < a.base.nbytes else own(a)


def _unmeasured(feeds: Mapping[str, np.ndarray], rounds: int) -> list[float]:
    raise GraphcError(
        "a model whose shapes follow from data can't be timed step by step",
        hint="time it whole: without --profile, --trace and --picture",
    )

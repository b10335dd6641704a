"""The graphs that If, Loop and Scan hold, for the types of their operands, after the same passes as the graph around them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

from graphc.errors import GraphcError
from graphc.graph import Graph
from graphc.ops.control import bound_graphs
from graphc.ops.raising import refusal
from graphc.passes.log import Log, LogEntry
from graphc.passes.rewrite import Pass, Sweep


@dataclass(frozen=True)
class HeldGraphs:
    """passes: of held graphs, before this one. disabled: names of those that are left out."""

    passes: tuple[Pass, ...]
    disabled: frozenset[str] = frozenset()
    name: str = "held_graphs"

    def without(self, disabled: Collection[str]) -> HeldGraphs:
        return replace(self, disabled=frozenset(disabled))

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        if not any(n.op.holds_graphs for n in graph.nodes):
            return graph
        sweep, changed = Sweep(graph), False
        for node in graph.nodes:
            new = sweep.copy(node)
            held = bound_graphs(new, partial(self._simplified, log=log)) if new.op.holds_graphs else {}
            if all(g is new.attrs[k] for k, g in held.items()):
                continue
            sweep.nodes.pop()
            names = [v.name for v in node.outputs]
            try:
                values = sweep.add(
                    new.op, *new.inputs, name=node.name, outputs=names, source=node.source, **{**new.attrs, **held}
                )
            except GraphcError:  # its graphs do not fit: whoever runs it will say so
                sweep.nodes.append(new)
                continue
            changed = True
            for old, value in zip(node.outputs, values if isinstance(values, tuple) else (values,)):
                sweep.map[old] = value
            if log is not None:
                log.entries += [
                    LogEntry(self.name, key, node.op.name, node.name, _reason(g))
                    for key, g in held.items()
                    if refusal(new.attrs[key]) is None
                ]
        return sweep.finish() if changed else graph

    def _simplified(self, graph: Graph, log: Log | None) -> Graph:
        for step in self.passes:
            if step.name not in self.disabled:
                graph = step(graph)
        return self(graph, log)


def _reason(graph: Graph) -> str:
    """Why it is not simplified."""
    error = refusal(graph)
    return "" if error is None else f"for these shapes, it is an error to take it: {error}"

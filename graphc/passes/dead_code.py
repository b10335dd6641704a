"""Remove nodes whose outputs nothing reads."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.graph import Graph
from graphc.passes.log import Log, LogEntry
from graphc.passes.rewrite import remove_dead


@dataclass(frozen=True)
class DeadCode:
    name: str = "dead_code"

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        new = remove_dead(graph)
        if log is not None and new is not graph:
            kept = set(new.nodes)
            for node in graph.nodes:
                if node not in kept:
                    log.add(LogEntry(self.name, "remove", node.op.name, node.name))
        return new


dead_code = DeadCode()

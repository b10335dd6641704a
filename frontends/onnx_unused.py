"""What an ONNX graph holds and no output depends on: warnings, for it may have been meant."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import GraphProto, NodeProto

from graphc.errors import GraphcError, Location


def unused(graph: GraphProto, file: str | None) -> list[GraphcError]:
    """Inputs, then nodes in the order of the file."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needed: set[str] = set()
    live: set[int] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        i = makers.get(name)
        if i is not None and i not in live:
            live.add(i)
            waiting += _reads(graph.node[i])
    kept = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    found = [
        GraphcError("no output depends on it", source=Location(file, f"input '{info.name}'"))
        for info in graph.input
        if info.name not in needed and info.name not in kept
    ]
    read = {name for node in graph.node for name in _reads(node)}
    for i, node in enumerate(graph.node):
        if i not in live:
            goes_on = any(name in read for name in node.output)
            what = "no output depends on its result" if goes_on else "nothing reads its result"
            name = node.name or next((o for o in node.output if o), "")
            found.append(GraphcError(what, op=node.op_type, node=name, source=Location(file, f"node {i}")))
    return found


def _reads(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those inside its subgraphs included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)
            yield from (output.name for output in graph.output)

"""Values that are no tensors, as bundles of tensors: inputs and results of a graph are taken apart into what they consist of.

Then all of the graph is about tensors, as far as it is known which elements there are (graphc/passes/dissolve_objects.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphc.graph import Graph, Node, Rewriter, Value
from graphc.objects import Content, ObjectType, is_object
from graphc.structures import Made, Structure, Whole
from graphc.types import TensorType


def opened(graph: Graph, structures: Mapping[str, Structure]) -> Graph:
    """The graph with the tensors that inputs consist of in their place, by name."""
    if not structures:
        return graph
    rw = Rewriter(graph)
    rw.inputs = []
    for v in graph.inputs:
        if v.name in structures:
            rw.map[v] = _bundle(rw, v.name, structures[v.name], v.type)
        else:
            rw.inputs.append(v)
    for node in graph.nodes:
        rw.copy(node)
    made = rw.finish()
    names = [v.name for v in made.values() if not v.is_const]
    if len({*names}) < len(names):
        raise Whole  # a value is named as an element would be
    return made


def _bundle(rw: Rewriter, name: str, s: Structure, of: Content) -> Value:
    """Nodes that make the value of its tensors, which become inputs."""
    if not isinstance(of, ObjectType):
        assert isinstance(s, TensorType)
        rw.inputs.append(Value(name, s))
        return rw.inputs[-1]
    if of.kind == "optional":
        held = [] if s is None else [_bundle(rw, name, s, of.of)]
        return rw.add("Optional", *held, name=f"{name}.optional", type=None if held else of.of)
    assert isinstance(s, tuple)
    if not s:
        assert not isinstance(of.of, ObjectType)
        return rw.add("SequenceEmpty", name=name, dtype=of.of.dtype)
    return rw.add("SequenceConstruct", *(_bundle(rw, f"{name}[{i}]", x, of.of) for i, x in enumerate(s)), name=name)


def closed(graph: Graph) -> tuple[Graph, list[Made]]:
    """The graph with the tensors that results consist of in their place, as far as these are known, and which of them makes up
    which result."""
    if not any(is_object(v.type) for v in graph.outputs):
        return graph, list(range(len(graph.outputs)))
    producers = graph.producers()
    outputs: list[Value] = []
    names: list[str] = []

    def made(name: str, v: Value) -> Made:
        node = producers.get(v)
        if node is None or not is_bundle(node):
            outputs.append(v)
            names.append(name)
            return len(outputs) - 1
        if node.op.name == "Optional":
            return made(name, node.operands[0]) if node.operands else None
        return [made(f"{name}[{i}]", x) for i, x in enumerate(node.operands)]

    results = [made(name, v) for name, v in zip(graph.output_names, graph.outputs)]
    return without_bundles(replace(graph, outputs=tuple(outputs), output_names=tuple(names))), results


def is_bundle(node: Node) -> bool:
    """Is what it makes no more than its operands?"""
    return node.op.name in ("SequenceConstruct", "SequenceEmpty", "Optional")


def without_bundles(graph: Graph) -> Graph:
    """The graph without those that nothing reads."""
    read = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not is_bundle(node) or node.output in read:
            kept.append(node)
            read.update(node.operands)
    return replace(graph, nodes=tuple(reversed(kept)))

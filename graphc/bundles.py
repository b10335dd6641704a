"""Values that are no tensors, as bundles of tensors: inputs and results of a graph are taken apart into what they consist of.

Then all of the graph is about tensors, as far as it is known which elements there are (graphc/passes/dissolve_objects.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Union

import numpy as np

from graphc.graph import Graph, Node, Rewriter, Value
from graphc.objects import Content, ObjectType, is_object
from graphc.types import Sym, TensorType

# What a value consists of: a tensor, elements, nothing (an optional that is empty).
Structure = Union[TensorType, "tuple[Structure, ...]", None]
# Results: which of the tensors, lists of such, None.
Made = Union[int, list["Made"], None]

MOST_TENSORS = 64  # that inputs are taken apart into


class Whole(Exception):
    """It can't be taken apart."""


def form(value: Any) -> Any:
    """What values of one structure have in common, hashable."""
    if isinstance(value, list):
        return (len(value), *map(form, value))
    return value if value is None else (value.dtype.str, value.ndim)


def structure(name: str, value: Any, of: Content) -> Structure:
    """Of a value in a box of that type. Sizes that the type leaves open are open, each by a name of its own. Raises Whole."""
    if isinstance(of, ObjectType):
        if of.kind == "optional":
            return None if value is None else structure(name, value, of.of)
        if of.kind != "sequence" or not value and (isinstance(of.of, ObjectType) or of.of.dtype is None):
            raise Whole
        return tuple(structure(f"{name}[{i}]", item, of.of) for i, item in enumerate(value))
    declared = of.shape if isinstance(of, TensorType) else [None] * value.ndim
    return TensorType(value.dtype, [d if isinstance(d, int) else Sym(f"{name}_d{i}") for i, d in enumerate(declared)])


def tensors(value: Any) -> Iterator[np.ndarray]:
    """What a value consists of, in order."""
    if isinstance(value, list):
        for item in value:
            yield from tensors(item)
    elif value is not None:
        yield value


# --- graphs -------------------------------------------------------------------------------------------------------------
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


def put_together(made: Made, arrays: Sequence[Any]) -> Any:
    """The object, or the tensor, that a result is."""
    if isinstance(made, list):
        return [put_together(m, arrays) for m in made]
    return None if made is None else arrays[made]

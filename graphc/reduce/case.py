"""A graph with its inputs, and what parts of it and smaller ones are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dims import substitute
from graphc.errors import GraphcError
from graphc.graph import Graph, Node, Value, constant, make_node
from graphc.interpret import run_node
from graphc.objects import ObjectType, given_back, unbox
from graphc.types import TensorType


@dataclass(frozen=True)
class Case:
    """feeds: as callers give them, by name."""

    graph: Graph
    feeds: Mapping[str, Any]

    @property
    def elements(self) -> int:
        """Of all inputs and constants."""
        arrays = [v.data for v in self.graph.constants()] + [np.asarray(a) for a in self.feeds.values()]
        return sum(a.size for a in arrays)

    def __str__(self) -> str:
        nodes, elements = len(self.graph.nodes), self.elements
        return f"{nodes} node{'s' if nodes != 1 else ''}, {elements:,} numbers in inputs and constants"


class Recording:
    """A case with the values of its nodes: see `recorded`."""

    def __init__(self, case: Case, results: Iterable[Sequence[Any]]) -> None:
        self.case = case
        self._values: dict[Value, Any] = {v: case.feeds[v.name] for v in case.graph.inputs}
        for node, found in zip(case.graph.nodes, results):
            self._values.update(zip(node.outputs, found))

    def part(self, nodes: Sequence[Node]) -> Case | None:
        """These nodes alone: what they read of others are inputs, and what others read of them results. None where it can't be
        told what such an input holds."""
        graph = self.case.graph
        made = {v for n in nodes for v in n.outputs}
        inside = set(map(id, nodes))
        wanted = {v for n in graph.nodes if id(n) not in inside for v in n.operands} | set(graph.outputs)
        read = list(dict.fromkeys(v for n in nodes for v in n.operands if v not in made and not v.is_const))
        if any(v not in self._values for v in read):
            return None
        names = _unique([v.name for v in read])
        inputs = {v: Value(name, _type(v, self._values[v])) for v, name in zip(read, names)}
        feeds = {name: self._values[v] for v, name in zip(read, names)}
        outputs = [v for n in nodes for v in n.outputs if v in wanted]
        return rebuilt(graph.name, nodes, inputs, outputs, feeds)


def only_results(case: Case, kept: Sequence[int]) -> Case | None:
    """The case with some of its results, and the nodes that they need."""
    outputs = [case.graph.outputs[i] for i in kept]
    needed, nodes = set(outputs), []
    for node in reversed(case.graph.nodes):
        if any(v in needed for v in node.outputs):
            needed.update(node.operands)
            nodes.append(node)
    inputs = {v: v for v in case.graph.inputs if v in needed}
    feeds = {v.name: case.feeds[v.name] for v in inputs}
    return rebuilt(case.graph.name, nodes[::-1], inputs, outputs, feeds)


def resized(case: Case, size: int, smaller: int) -> Case | None:
    """The case with every dim of one size cut to a smaller one, in inputs and constants. None where operators do not take that."""

    def cut(a: Any) -> Any:
        if not isinstance(a, np.ndarray) or size not in a.shape:
            return a
        return np.ascontiguousarray(a[tuple(slice(smaller if d == size else None) for d in a.shape)])

    feeds = {name: cut(a) for name, a in case.feeds.items()}
    inputs = {v: Value(v.name, _type(v, feeds[v.name])) for v in case.graph.inputs}
    return rebuilt(case.graph.name, case.graph.nodes, inputs, case.graph.outputs, feeds, cut)


def rebuilt(
    name: str,
    nodes: Sequence[Node],
    inputs: Mapping[Value, Value],
    outputs: Sequence[Value],
    feeds: Mapping[str, Any],
    of_constants: Callable[[Any], Any] = lambda a: a,
) -> Case | None:
    """The nodes again, with types of their own, on other inputs and constants; None where they do not take these."""
    values: dict[Value, Value] = dict(inputs)

    def now(v: Value) -> Value:
        if v not in values:
            assert v.data is not None, f"nothing makes {v}"
            data = of_constants(v.data)
            values[v] = v if data is v.data else constant(v.name, data)
        return values[v]

    made = []
    for n in nodes:
        try:
            node = make_node(
                n.op,
                [None if v is None else now(v) for v in n.inputs],
                n.attrs,
                name=n.name,
                outputs=[v.name for v in n.outputs],
                source=n.source,
            )
        except GraphcError:
            return None
        made.append(node)
        values.update(zip(n.outputs, node.outputs))
    results = tuple(now(v) for v in outputs)
    names = tuple(_unique([v.name for v in outputs]))
    return Case(Graph(name, tuple(inputs.values()), results, tuple(made), names), dict(feeds))


def recorded(case: Case, skipped: Collection[int] = ()) -> Iterator[list[Any]]:
    """Results of each node in order, as the reference computes them; of those that it fails at, and that are skipped, by their
    numbers, random numbers where their types are known, else none."""
    from graphc.cli.rounding import as_operand

    arrays: dict[Value, np.ndarray] = {v: as_operand(case.feeds[v.name], v.type) for v in case.graph.inputs}
    sizes = {str(d): n for v, a in arrays.items() for d, n in zip(v.type.shape or (), np.shape(a))}
    rng = np.random.default_rng(0)
    for number, node in enumerate(case.graph.nodes):
        operands = [None if v is None else v.data if v.is_const else arrays.get(v) for v in node.inputs]
        known = all(a is not None or v is None for a, v in zip(operands, node.inputs))
        results: Sequence[np.ndarray] | None = None
        if known and number not in skipped:
            with suppress(GraphcError):
                results = run_node(node, operands)
        results = _drawn(node, rng, sizes) if results is None else results
        arrays.update(zip(node.outputs, results))
        yield [given_back(unbox(a)) for a in results]


def _drawn(node: Node, rng: np.random.Generator, sizes: Mapping[str, int]) -> list[np.ndarray]:
    """sizes: of dims that are open, by their names."""
    types = [
        t.with_shape([substitute(d, sizes) for d in t.shape])
        if isinstance(t, TensorType) and t.shape is not None
        else t
        for t in (v.type for v in node.outputs)
    ]
    if not all(
        t is not None and not isinstance(t, ObjectType) and t.is_static and t.dtype.kind in "biufV" for t in types
    ):
        return []
    return [
        (rng.uniform(-1, 1, t.extents) if t.dtype.kind in "fV" else rng.integers(0, 2, t.extents)).astype(t.dtype)
        for t in types
    ]


def _type(v: Value, held: Any) -> TensorType:
    return TensorType(held.dtype, held.shape) if isinstance(held, np.ndarray) else v.type


def _unique(names: Sequence[str]) -> list[str]:
    taken: dict[str, int] = {}
    found = []
    for name in names:
        number = taken[name] = taken.get(name, 0) + 1
        found.append(name if number == 1 else f"{name}#{number}")
    return found

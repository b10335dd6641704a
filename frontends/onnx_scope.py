"""Names while an ONNX graph is read: which values they stand for, where nodes lie, and in which order they run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from onnx import AttributeProto, NodeProto

from graphc.errors import GraphcError, LoadError, Location
from graphc.frontends.onnx_sequences import Item, SequenceValue
from graphc.frontends.onnx_values import KnowingBuilder
from graphc.graph import Value


@dataclass
class Scope:
    """Names of one graph or function body. What it takes from an outer graph becomes a capture."""

    builder: KnowingBuilder
    values: dict[str, Item | None] = field(default_factory=dict)
    outer: Scope | None = None
    prefix: str = ""  # of the names of values and nodes (function bodies)
    captures: dict[Value, Value] = field(default_factory=dict)  # outer value -> input of this graph

    def find(self, name: str) -> Item | None:
        """The value of that name (None: absent). Raises KeyError when there is none."""
        if name == "":
            return None
        if name in self.values:
            return self.values[name]
        if self.outer is None:
            raise KeyError(name)
        v = self.outer.find(name)
        if v is not None and self.builder is not self.outer.builder:
            theirs = self.outer.builder
            if isinstance(v, SequenceValue):
                v = v.mapped(lambda held: held if held.is_const else self._capture(held, theirs))
            elif not v.is_const:
                v = self._capture(v, theirs)
        self.values[name] = v
        return v

    def _capture(self, v: Value, theirs: KnowingBuilder) -> Value:
        inner = self.captures.setdefault(v, Value(v.name, v.type))
        ours = self.builder
        if v in theirs.known:
            ours.known[inner] = theirs.known[v]
        if v in theirs.fixed:
            ours.fixed.add(inner)
        return inner

    def names(self) -> set[str]:
        return set(self.values) | (self.outer.names() if self.outer else set())


@dataclass(frozen=True)
class Context:
    """What holds for a list of nodes: opsets, the enclosing function's attributes, and the way there."""

    opsets: Mapping[str, int]
    attrs: Mapping[str, AttributeProto] | None = None
    path: tuple[str, ...] = ()
    inside: tuple[tuple[str, str], ...] = ()  # functions being inlined


@dataclass(frozen=True)
class FileNode:
    """One node of the file, for conversion and for messages."""

    proto: NodeProto
    name: str
    source: Location
    scope: Scope
    context: Context

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, '' where one is not wanted. Those at the end that are not wanted are left out, but for an
        operator whose meaning depends on their number."""
        names = list(self.proto.output)
        while names and not names[-1] and self.proto.op_type != "Split":
            names.pop()
        return names


def order(
    protos: Sequence[NodeProto], defined: Collection[str], file: str | None, path: tuple[str, ...]
) -> tuple[list[int], list[GraphcError]]:
    """Indices of the nodes in topological order, ties in the file's order, and what is wrong with their names.

    defined: names that inputs and initializers have. With a cycle there is no order: the list is empty.
    """
    maker: dict[str, int] = {}
    problems: list[GraphcError] = []
    for i, proto in enumerate(protos):
        for name in filter(None, proto.output):
            if name in maker or name in defined:
                first = f"node {maker[name]}" if name in maker else "an input or initializer"
                message = f"produces '{name}', which {first} produces too"
                where = Location(file, f"node {i}", path)
                problems.append(LoadError(message, op=proto.op_type, node=proto.name, source=where))
            else:
                maker[name] = i
    waits = [{maker[n] for n in reads(proto) if n in maker} for proto in protos]
    if all(j < i for i, needs in enumerate(waits) for j in needs):
        return list(range(len(protos))), problems
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(protos)))
    graph.add_edges_from((j, i) for i, needs in enumerate(waits) for j in needs)
    try:
        return list(nx.lexicographical_topological_sort(graph)), problems
    except nx.NetworkXUnfeasible:
        cycle = " -> ".join(f"node {a} ({protos[a].op_type})" for a, *_ in nx.find_cycle(graph))
        hint = "ONNX graphs are acyclic; recurrence is written with Loop or Scan"
        problems.append(LoadError(f"the graph has a cycle: {cycle}", hint=hint, source=Location(file, None, path)))
        return [], problems


def reads(node: NodeProto) -> Iterable[str]:
    """Names that a node reads, those that its subgraphs take from outside included."""
    yield from node.input
    for a in node.attribute:
        for g in (a.g, *a.graphs) if a.HasField("g") or a.graphs else ():
            own = {o for n in g.node for o in n.output} | {i.name for i in (*g.input, *g.initializer)}
            inner = {r for n in g.node for r in reads(n)} | {o.name for o in g.output}
            yield from sorted(inner - own)


def did_you_mean(name: str, scope: Scope) -> str | None:
    close = get_close_matches(name, scope.names(), 1)
    return f"did you mean '{close[0]}'?" if close else "the file is damaged or was cut out of a larger model"

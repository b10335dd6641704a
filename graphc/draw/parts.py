"""A graph as parts in scopes: what there is to draw, before anything is folded.

A part is a node, an input or a result. Scopes come from the names of nodes ('net.2.0.main.1.conv', '/layer1/layer1.0/conv1/Conv'),
from blocks of a YAML file, and from graphs that nodes hold: those become scopes, whose inputs and results are parts, so that
values alone tell what reads what.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union

from graphc.draw.kinds import Kind, kind_of, short_name
from graphc.draw.labels import details
from graphc.graph import Graph, Node, Value


@dataclass(eq=False)
class Part:
    """What one row of a box shows. reads, makes: values, without weights."""

    title: str
    detail: str
    kind: Kind
    name: str
    reads: tuple[Value, ...] = ()
    makes: tuple[Value, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.title} {self.detail}".strip()


@dataclass(eq=False)
class Scope:
    """Parts that belong together. label: of its frame; one without a label has no frame. whole: it has one in any case. least:
    elements that it must have for a frame."""

    label: str
    path: str
    items: list[Item] = field(default_factory=list)
    whole: bool = False
    least: int = 2

    def parts(self) -> Iterator[Part]:
        for item in self.items:
            if isinstance(item, Part):
                yield item
            else:
                yield from item.parts()


Item = Union[Part, Scope]


def parts_of(item: Item) -> list[Part]:
    return [item] if isinstance(item, Part) else list(item.parts())


def scopes_of(graph: Graph) -> Scope:
    """The whole graph as a scope. Weights, and what is computed of weights alone, are no parts."""
    weights = graph.meta.get("weights")
    reader = _Reader(graph.meta.get("blocks"), None if weights is None else {w.name for w in weights})
    root = reader.scope(graph, graph.name, {})
    inputs: list[Item] = [Part(v.name, "", Kind.PORT, v.name, (), (v,)) for v in graph.inputs]
    results: list[Item] = [
        Part(name, "", Kind.PORT, name, (reader.outer(v),)) for name, v in zip(graph.output_names, graph.outputs)
    ]
    root.items = [*inputs, *root.items, *results]
    return root


class _Reader:
    """weights: their names, where the front end tells; else they are constants of floats."""

    def __init__(self, blocks: Mapping[str, str] | None, weights: Collection[str] | None) -> None:
        self.blocks, self.weights = blocks, weights
        self.fixed: set[Value] = set()  # that follow from weights alone
        self.captured: dict[Value, Value] = {}  # inside -> outside

    def outer(self, v: Value) -> Value:
        return self.captured.get(v, v)

    def scope(self, graph: Graph, label: str, captured: Mapping[Value, Value]) -> Scope:
        self.captured.update(captured)
        root = Scope(label, "")
        names = _Names([n.name for n in graph.nodes], self.blocks)
        scopes: dict[tuple[str, ...], Scope] = {(): root}
        for node in graph.nodes:
            if self._is_fixed(node):
                self.fixed.update(node.outputs)
            else:
                self._within(scopes, names.scope_of(node.name), names).items.append(self._item(node))
        return root

    def _is_fixed(self, node: Node) -> bool:
        return (
            all(v.is_const or v in self.fixed for v in map(self.outer, node.operands))
            and node.deterministic
            and bool(node.operands or node.op.name == "Constant")
            and not node.op.holds_graphs
        )

    def _within(self, scopes: dict[tuple[str, ...], Scope], path: tuple[str, ...], names: _Names) -> Scope:
        if path not in scopes:
            scopes[path] = Scope(names.label(path), names.text(path), least=names.least(path))
            self._within(scopes, path[:-1], names).items.append(scopes[path])
        return scopes[path]

    def _read(self, values: Iterable[Value | None]) -> tuple[Value, ...]:
        """Without weights, each once."""
        found = (self.outer(v) for v in values if v is not None)
        return tuple(dict.fromkeys(v for v in found if not v.is_const and v not in self.fixed))

    def _item(self, node: Node) -> Item:
        if any(isinstance(g, Graph) for g in node.attrs.values()):
            return self._holder(node)
        title = "Embedding" if self._is_embedding(node) else short_name(node.op)
        return Part(title, details(node), kind_of(node.op), node.name, self._read(node.inputs), node.outputs)

    def _is_embedding(self, node: Node) -> bool:
        """Does it take rows of a table of weights?"""
        if node.op.name != "Gather" or node.attrs["axis"] != 0:
            return False
        table = self.outer(node.operands[0])
        if not table.is_const or len(table.shape) != 2:
            return False
        return table.dtype.kind == "f" if self.weights is None else table.name in self.weights

    def _holder(self, node: Node) -> Scope:
        """A node that holds graphs: what goes in and comes out of each is a part of its own."""
        scope = Scope(short_name(node.op), node.name, whole=True)
        held = {k: g for k, g in node.attrs.items() if isinstance(g, Graph)}
        if node.op.name == "If":
            scope.items.append(Part("condition", "", Kind.CONTROL, node.name, self._read(node.inputs[:1])))
        for key, graph in held.items():
            formal, results = _ports(node, graph)
            captures = len(graph.inputs) - len(formal)
            outside = node.inputs[len(node.inputs) - captures :] if captures else ()
            known = {v: self.outer(o) for v, o in zip(graph.inputs[len(formal) :], outside) if o is not None}
            inner = self.scope(graph, key.removesuffix("_branch"), known)
            used = {self.outer(v) for n in graph.nodes for v in n.operands} | {*graph.outputs}
            into: list[Item] = [
                Part(v.name, "", Kind.CONTROL, v.name, self._read([o]), (v,))
                for v, o in zip(graph.inputs, formal)
                if v in used or self._read([o])
            ]
            out: list[Item] = [
                Part(name.removesuffix(".next"), "", Kind.CONTROL, name, self._read([v]), () if o is None else (o,))
                for name, v, o in zip(graph.output_names, graph.outputs, results)
            ]
            inner.items = [*into, *inner.items, *out]
            if len(held) == 1:
                scope.items += inner.items
            else:
                inner.whole = True
                scope.items.append(inner)
        return scope


def _ports(node: Node, graph: Graph) -> tuple[list[Value | None], list[Value | None]]:
    """What each formal input of the held graph is outside, and each of its results."""
    if node.op.name == "If":
        return [], list(node.outputs)
    n_formal = node.attrs["n_states"] + node.attrs.get("num_scan_inputs", 0)
    if node.op.name == "Scan":
        return list(node.inputs[:n_formal]), list(node.outputs)
    trips, condition = node.inputs[:2]
    return [trips, condition, *node.inputs[2 : 2 + n_formal]], [None, *node.outputs]


class _Names:
    """Scopes of nodes by their names."""

    def __init__(self, names: Iterable[str], blocks: Mapping[str, str] | None) -> None:
        self.blocks = blocks
        self.layers = {name.rpartition("/")[0] for name in names if "/" in name.strip("/")}

    def scope_of(self, name: str) -> tuple[str, ...]:
        """'net.2.0.conv' is in ('net', '2', '0'), and '/layer1/conv1/Conv' in ('layer1', 'conv1')."""
        parts = self._split(name)
        return tuple(parts if name in self.layers else parts[:-1])

    def _split(self, name: str) -> list[str]:
        parts = re.split("/" if name.startswith("/") else "[./]", name)
        return [part for part in parts if part]

    def text(self, path: tuple[str, ...]) -> str:
        return ".".join(path)

    def label(self, path: tuple[str, ...]) -> str:
        if self.blocks is None:
            return "" if path[-1].isdigit() else path[-1]
        text, own = self.text(path), re.sub(r"_\d+$", "", path[-1])
        block = self.blocks.get(text)
        if block is not None:
            return block if own.isdigit() or own == block else f"{own}: {block}"
        return own if text in self.layers and not own.isdigit() else ""

    def least(self, path: tuple[str, ...]) -> int:
        """What a layer of a YAML file becomes is often two operators, and says no more in a frame."""
        return 2 if self.blocks is None or self.text(path) in self.blocks else 3

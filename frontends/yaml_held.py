"""Graphs that operators hold: steps of a YAML model are built into them, and what they read from outside becomes inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphc.graph import Builder, Graph, Value
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.frontends.yaml_net import Expander


class Held(Builder):
    """Builds the graph that an operator holds."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.captures: dict[Value, Value] = {}  # a value outside -> the input that stands for it
        self._own: set[Value] = set()
        self._names: set[str] = set()

    def formal(self, name: str, type_: TensorType | None) -> Value:
        """A new input. Whoever binds the graph tells its inputs apart by their names."""
        unique, n = name, 1
        while unique in self._names:
            unique, n = f"{name}_{n}", n + 1
        self._names.add(unique)
        value = Value(unique, type_)
        self._own.add(value)
        return value

    def given(self, name: str, type_: TensorType | None) -> Value:
        self.inputs.append(self.formal(name, type_))
        return self.inputs[-1]

    def add(self, op: Any, *inputs: Value | None, **how: Any) -> Any:
        made = super().add(op, *(None if v is None else self.inner(v) for v in inputs), **how)
        self._own.update((made,) if isinstance(made, Value) else made)
        return made

    def inner(self, v: Value) -> Value:
        """The value as nodes within can read it: constants, weights among them, need no input."""
        if v in self._own or v.is_const:
            return v
        if v not in self.captures:
            self.captures[v] = self.formal(v.name, v.type)
        return self.captures[v]

    def seen(self, outputs: Iterable[Value]) -> tuple[Value, ...]:
        """What it captures, for these results, in the order of its last inputs."""
        for v in outputs:
            self.inner(v)
        return tuple(self.captures)

    def graph(self, outputs: Mapping[str, Value], captured: Sequence[Value] | None = None) -> Graph:
        """captured: what the operator captures, where it holds several graphs."""
        inputs = [self.inner(v) for v in (self.seen(outputs.values()) if captured is None else captured)]
        graph = self.build({name: self.inner(v) for name, v in outputs.items()})
        return replace(graph, inputs=(*graph.inputs, *inputs))


@contextmanager
def inside(x: Expander, held: Held) -> Iterator[None]:
    """Steps are built into the held graph."""
    outer, x.builder = x.builder, held
    try:
        yield
    finally:
        x.builder = outer

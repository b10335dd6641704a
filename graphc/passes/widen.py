"""Operators of float16 and bfloat16 that a backend's kernels know in float32 alone, in float32.

    Conv(x16, w16)  becomes  y = RoundTo(Conv(Cast(x16), w32)),  Cast(y)

where only the first Cast of a region and the last are left: what follows reads y. Each value that the file declares narrow is
rounded to it, once, as its operator makes it; in between are float32 numbers that have the narrow type's digits. RoundTo is
elementwise, so it ends the kernel before it, as an activation does. Weights are converted here, activations lie in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from graphc.converted import FLOAT32, in_float32
from graphc.dtypes import NATIVE, is_narrow
from graphc.errors import GraphcError
from graphc.graph import Graph, Node, Value, constant, make_node
from graphc.passes.log import Log, LogEntry
from graphc.passes.rewrite import Sweep, remove_dead
from graphc.types import TensorType

Compiles = Callable[[Node], bool]


def is_half(v: Value | None) -> bool:
    """Is it of a type that kernels load and store, and compute with in float32? (Not where the type is unknown.)"""
    return v is not None and v.type is not None and v.dtype.name in NATIVE and is_narrow(v.dtype)


def widened(node: Node) -> Node | None:
    """The node of float32 operands for one that has narrow ones: to ask whether a kernel computes it. None where there is no
    such node."""
    if not any(map(is_half, node.inputs)) or node.op.holds_graphs:
        return None
    return _over(node, tuple(_typed(v) if is_half(v) else v for v in node.inputs))


def _typed(v: Value) -> Value:
    """In float32; of a constant with the same elements, so that small ones may still be asked for."""
    data = None if v.data is None else v.data if v.data.size > 64 else v.data.astype(FLOAT32)
    return replace(v, type=v.type.with_dtype(FLOAT32), data=data)


def _over(node: Node, inputs: tuple[Value | None, ...]) -> Node | None:
    """The node over other operands, if its results are then of their own types, or of float32 in the place of a narrow one."""
    names = [f"{v.name}/float32" for v in node.outputs]
    try:
        new = make_node(node.op, inputs, node.attrs, name=node.name, outputs=names, source=node.source)
    except GraphcError:
        return None
    fits = all(_stands_for(a.type, b.type) for a, b in zip(new.outputs, node.outputs))
    return new if fits else None


def _stands_for(new: TensorType | None, old: TensorType | None) -> bool:
    if new is None or old is None:
        return False
    return new == old or is_narrow(old.dtype) and new == old.with_dtype(FLOAT32)


def compiles_somehow(compiles: Compiles) -> Compiles:
    """Does a kernel compute a node, as it is or in float32?"""

    def either(node: Node) -> bool:
        if compiles(node):
            return True
        wide = widened(node)
        return wide is not None and compiles(wide)

    return either


@dataclass(frozen=True)
class Widen:
    """compiles: as `Backend.compiles`."""

    compiles: Compiles
    name: str = "widen"

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        if not any(map(self.must, graph.nodes)):
            return graph
        region = _Region(graph, self, log)
        for node in graph.nodes:
            region.take(node)
        return remove_dead(region.finish())

    def must(self, node: Node) -> bool:
        """Does it run on the host, and would not in float32?"""
        if node.op.elementwise or not any(map(is_half, node.inputs)) or self.compiles(node):
            return False
        wide = widened(node)
        return wide is not None and self.compiles(wide)


class _Region(Sweep):
    """One sweep. wide: the float32 value of a narrow one, where there is one."""

    def __init__(self, graph: Graph, how: Widen, log: Log | None) -> None:
        super().__init__(graph)
        self.how, self.log = how, log
        self.wide: dict[Value, Value] = {}

    def take(self, node: Node) -> None:
        self.prefix, self.source = f"{node.name or node.outputs[0].name}/", node.source
        new = self.copy(node)
        if not self.how.must(new) and not self._follows(new):
            return
        wide = self._beside_narrow(new)
        if wide is None:
            wide = _over(new, tuple(self._in_float32(v) if is_half(v) else v for v in new.inputs))
        if wide is None or not self.how.compiles(wide):
            return
        if self.log is not None:
            self.log.add(LogEntry(self.how.name, "in float32", node.op.name, node.name))
        self.nodes.append(wide)
        for old, mine, made in zip(node.outputs, new.outputs, wide.outputs):
            self.stands_for(old, made if made.dtype == mine.dtype else self._narrow(mine, made, node))

    def _follows(self, node: Node) -> bool:
        """Does it read what is in float32 anyway, with results that are no more to write? Kernels of products are left as they
        are: a narrow one may be faster."""
        if node.op.macs is not None or node.op.holds_graphs:
            return False
        read = [v for v in node.operands if is_half(v) and not v.is_const]
        return bool(read) and (any if node.op.elementwise else all)(v in self.wide for v in read)

    def _beside_narrow(self, node: Node) -> Node | None:
        """The node that reads what is narrow as it is, if a kernel computes that: keys and values of many steps, say."""
        inputs = tuple(self._in_float32(v) if is_half(v) and (v.is_const or v in self.wide) else v for v in node.inputs)
        if not any(v in self.wide for v in node.operands) or not any(map(is_half, inputs)):
            return None
        mixed = _over(node, inputs)
        return mixed if mixed is not None and self.how.compiles(mixed) else None

    def _in_float32(self, v: Value) -> Value:
        if v.is_const:
            return constant(f"{v.name}/float32", in_float32(v.data))
        if v not in self.wide:
            maker = self.producer(v, "Cast")
            of = maker.inputs[0] if maker is not None else None
            if of is not None and of.type is not None and of.dtype == FLOAT32:
                self.wide[v] = self.add("RoundTo", of, to=v.dtype)
            else:
                self.wide[v] = self.add("Cast", v, to=FLOAT32)
        return self.wide[v]

    def _narrow(self, old: Value, made: Value, node: Node) -> Value:
        """The narrow value that a float32 one stands for."""
        if not node.op.exact:
            made = self.add("RoundTo", made, to=old.dtype)
        narrow = self.add("Cast", made, name=old.name, to=old.dtype)
        self.wide[narrow] = made
        return narrow

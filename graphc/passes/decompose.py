"""Replace operators that a backend has no kernel for by their expansions into others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from graphc.graph import Builder, Graph, Node, Value
from graphc.memory_limit import require_results
from graphc.own import FILES, mistake, mistakes
from graphc.passes.log import Log
from graphc.passes.rewrite import Rewrite, Skip, Sweep
from graphc.unread import all_attributes_read, require_operands_read

MAX_DEPTH = 16  # expansions of expansions
EXPANSION = "its expansion into other operators"


@dataclass(frozen=True)
class Decompose:
    """Expand every operator that has an expansion, except those named in `keep`, until none is left. Of these, too, a use that no
    kernel computes, but kernels compute what it stands for: compiles tells.

    Elementwise operators with a scalar body are kept: backends serve them by kind. An expansion may also decline: then
    the node stays, and the log says so.

    domains: only operators of other domains than ONNX's, so that what follows sees what they are made of.
    """

    keep: frozenset[str] = frozenset()
    name: str = "decompose"
    compiles: Callable[[Node], bool] = lambda node: False
    domains: bool = False

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        once = Rewrite(self.name)
        once.on("*")(self.expand)
        for _ in range(MAX_DEPTH):
            before, graph = graph, once(graph, log)
            if graph is before:
                return graph
        names = sorted({n.op.name for n in graph.nodes if self.wants(n)})
        own = [name for name in names if name in FILES]
        if own:
            raise mistake(own[0], "its expansion does not end: it has the operator itself in it")
        raise RecursionError(f"expansions do not end: {names}")

    def wants(self, node: Node) -> bool:
        if node.op.expand is None or node.op.scalar is not None or (self.domains and "::" not in node.op.name):
            return False
        return node.op.name not in self.keep or self._better_in_parts(node)

    def _better_in_parts(self, node: Node) -> bool:
        if any(v.type is None or not v.type.is_static for v in (*node.operands, *node.outputs)) or self.compiles(node):
            return False
        assert node.op.expand is not None
        parts = Builder()
        known: set[Value] = set()
        with mistakes(node.op.name, "expand"):
            if node.op.expand(parts, node.call) is None:
                return False
        for n in parts.nodes:
            if all(v.is_const or v in known for v in n.operands):
                known.update(n.outputs)
            elif not self.compiles(n) and not self.wants(n):
                return False
        return True

    def expand(self, node: Node, sweep: Sweep) -> tuple[Value, ...] | Skip | None:
        if not self.wants(node):
            return None
        assert node.op.expand is not None
        require_results(node)
        start, call = len(sweep.nodes), node.call
        with all_attributes_read(node, EXPANSION), mistakes(node.op.name, "expand"):
            values = node.op.expand(sweep, call)
            if values is None:
                node.attrs.ignore(*node.op.attrs)
            else:
                values = _checked(node, (values,) if isinstance(values, Value) else tuple(values))
        if values is None:
            return Skip("its expansion does not cover this use")
        ignored = {v for i, v in enumerate(node.inputs) if i in call.ignored}
        read = {v for n in sweep.nodes[start:] for v in n.operands}
        require_operands_read(node, {*values, *read, *ignored}, EXPANSION)
        return _named(sweep, start, values, [v.name for v in node.outputs])


def _checked(node: Node, values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Of an operator of a user's: are they values of the inferred types? Raises TypeError where not."""
    if node.op.name not in FILES:
        return values
    for value in values:
        if not isinstance(value, Value):
            raise TypeError(f"it gives {value!r}, which is no value of the builder")
    if len(values) != len(node.outputs):
        raise TypeError(f"it gives {len(values)} values, not {len(node.outputs)}")
    for value, output in zip(values, node.outputs):
        if None not in (value.type, output.type) and value.type != output.type:
            raise TypeError(f"it gives {value.type}, and `infer` {output.type}")
    return values


def _named(sweep: Sweep, start: int, values: tuple[Value, ...], names: list[str]) -> tuple[Value, ...]:
    """The expansion's results under the names of the node's outputs, so that values can be compared across passes."""
    made = {v for n in sweep.nodes[start:] for v in n.outputs}
    renamed = {v: replace(v, name=name) for v, name in zip(values, names) if v in made}
    for i in range(start, len(sweep.nodes)):
        n = sweep.nodes[i]
        inputs = tuple(renamed.get(v, v) for v in n.inputs)
        sweep.nodes[i] = replace(n, inputs=inputs, outputs=tuple(renamed.get(v, v) for v in n.outputs))
    return tuple(renamed.get(v, v) for v in values)

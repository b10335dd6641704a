"""The dataflow graph: immutable values and nodes in SSA form, a builder that infers types, and sweeps that rebuild.

A `Graph` lists its nodes in topological order. Values are compared by identity; a constant is a value that carries its
array. Subgraphs (If, Loop, Scan) are graphs in attributes; what they use from outside is passed as explicit inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.attrs import Attrs
from graphc.errors import GraphcError, Location, TypeRuleError
from graphc.objects import ObjectType, is_object
from graphc.op import Call, Deferred, Op, get_op
from graphc.own import mistakes
from graphc.signature import State
from graphc.sizes import array_of, is_size_array
from graphc.types import Dim, MaybeNone, TensorType

if TYPE_CHECKING:
    import networkx
    from numpy.typing import DTypeLike


@dataclass(frozen=True, eq=False)
class Value:
    """An SSA value. `type` is None while it is known only after binding; `data` holds a constant's array (read-only)."""

    name: str
    type: TensorType | MaybeNone
    data: np.ndarray | MaybeNone = None

    @property
    def is_const(self) -> bool:
        return self.data is not None

    @property
    def shape(self) -> tuple[Any, ...]:
        if self.type is None:
            raise Deferred(f"type of '{self.name}'")
        return self.type.shape

    @property
    def dtype(self) -> np.dtype:
        if self.type is None:
            raise Deferred(f"type of '{self.name}'")
        return self.type.dtype

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}{' const' if self.is_const else ''}"


@dataclass(frozen=True, eq=False)
class Node:
    """One use of an operator. Optional operands that are absent are None; attrs are complete (defaults filled in)."""

    op: Op
    inputs: tuple[Value | MaybeNone, ...]
    outputs: tuple[Value, ...]
    attrs: Attrs
    name: str
    source: Location | None = None

    @property
    def output(self) -> Value:
        return self.outputs[0]

    @property
    def operands(self) -> tuple[Value, ...]:
        """The inputs that are given."""
        return tuple(v for v in self.inputs if v is not None)

    @property
    def call(self) -> Call:
        return Call(self.op, self.inputs, self.attrs, len(self.outputs))

    @property
    def deterministic(self) -> bool:
        """Does it give the same results for the same operands each time?"""
        always = self.op.deterministic
        return always if isinstance(always, bool) else always(self.call)

    def __repr__(self) -> str:
        ins = ", ".join(f"%{v.name}" if v else "-" for v in self.inputs)
        return f"{', '.join(map(repr, self.outputs))} = {self.op.name}({ins})"


def constant(name: str, data: np.ndarray, sizes: np.dtype | None = None) -> Value:
    """A constant value. The array is made read-only and kept, not copied. sizes: what one of objects that holds sizes stands
    for, int64 where it is not given."""
    data = np.asarray(data)
    dtype = np.dtype(sizes or np.int64) if is_size_array(data) else data.dtype
    if data.flags.writeable:
        data = data.view()
        data.flags.writeable = False
    return Value(name, TensorType(dtype, data.shape), data)


def make_node(
    op: str | Op,
    inputs: Sequence[Value | None],
    attrs: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    outputs: Sequence[str] = ("",),
    source: Location | None = None,
    types: Sequence[TensorType | None] | None = None,
) -> Node:
    """A node with its outputs' types inferred (or given, by passes that know them).

    Raises TypeRuleError with the node's name, operand types and place in the source file.
    """
    if isinstance(op, str):
        op = get_op(op)
    try:
        complete = op.complete_attrs(attrs or {})
        given = sum(v is not None for v in inputs)
        limit = None if op.variadic else len(op.inputs)
        if len(inputs) < op.min_inputs or (limit is not None and len(inputs) > limit):
            want = (
                f"{op.min_inputs}"
                if limit == op.min_inputs
                else f"{op.min_inputs} to {limit if limit is not None else 'any number'}"
            )
            raise TypeRuleError(f"takes {want} operands ({', '.join(op.inputs)}), not {given}")
        for i in range(op.min_inputs):
            if inputs[i] is None and not op.inputs[i].endswith("?"):
                raise TypeRuleError(f"operand '{op.inputs[i]}' is missing")
        for v in () if op.objects or op.holds_graphs else inputs:
            if v is not None and is_object(v.type):
                raise TypeRuleError(f"takes tensors, and '{v.name}' is of type {v.type}")
        if types is None:
            try:
                with mistakes(op.name, "infer", Deferred):
                    types = list(op.infer(Call(op, inputs, complete, len(outputs))))
                    for t in types:
                        if t is not None and not isinstance(t, (TensorType, ObjectType)):
                            raise TypeError(f"it gives {t!r}, which is no TensorType")
            except Deferred:
                types = [None] * len(outputs)
            except GraphcError:  # InputError is a ValueError, too
                raise
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # values beyond what numbers can be
                raise TypeRuleError(
                    f"operands or attributes that make no sense ({type(error).__name__}: {error})"
                ) from error
            for t in types:
                if t is not None and any(isinstance(d, int) and d < 0 for d in t.shape):
                    raise TypeRuleError(f"its result would be {t}", hint="no dim is less than 0")
    except GraphcError as e:
        if isinstance(e, TypeRuleError) and inputs and "operand types" not in e.message:
            e.message += f"\n  operand types: {', '.join(str(v.type or '?') if v is not None else '-' for v in inputs)}"
        raise e.located(op=op.name, node=name or (outputs[0] if outputs else None), source=source) from None
    if len(types) < len(outputs):
        raise TypeRuleError(f"has {len(types)} outputs, not {len(outputs)}", op=op.name, node=name, source=source)
    values = tuple(Value(n or f"{name or op.name}.{i}", t) for i, (n, t) in enumerate(zip(outputs, types)))
    return Node(op, tuple(inputs), values, complete, name, source)


@dataclass(frozen=True, eq=False)
class Graph:
    """A dataflow graph. `meta` keeps what a front end wants to tell (producer, opset, declared output types).

    states: inputs and results, by name, that may share memory. Passes keep the names of both.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    output_names: tuple[str, ...]  # of the results: one value may be several, also under one name
    meta: Mapping[str, Any] = field(default_factory=dict)
    states: tuple[State, ...] = ()

    def values(self) -> Iterator[Value]:
        """Every value once: inputs, constants where first used, results."""
        seen: set[Value] = set()
        for v in self._all():
            if v not in seen:
                seen.add(v)
                yield v

    def _all(self) -> Iterator[Value]:
        yield from self.inputs
        for n in self.nodes:
            yield from n.operands
            yield from n.outputs
        yield from self.outputs

    def producers(self) -> dict[Value, Node]:
        return {v: n for n in self.nodes for v in n.outputs}

    def consumers(self) -> dict[Value, list[Node]]:
        """Value -> the nodes that read it (once a reading operand). A graph output is not a node: see `is_output`."""
        out: dict[Value, list[Node]] = {}
        for n in self.nodes:
            for v in n.operands:
                out.setdefault(v, []).append(n)
        return out

    def is_output(self, v: Value) -> bool:
        return any(v is o for o in self.outputs)

    def constants(self) -> list[Value]:
        return [v for v in self.values() if v.is_const]

    def live_ranges(self) -> dict[Value, tuple[int, int]]:
        """Value -> (index of the node that makes it, or -1; index of the last that reads it, or len(nodes) for results)."""
        ranges = dict.fromkeys(self.inputs, (-1, -1))
        for i, n in enumerate(self.nodes):
            for v in n.operands:
                if not v.is_const:
                    ranges[v] = (ranges[v][0], i)
            for v in n.outputs:
                ranges[v] = (i, i)
        for v in self.outputs:
            if not v.is_const:
                ranges[v] = (ranges[v][0], len(self.nodes))
        return ranges

    def to_networkx(self) -> networkx.MultiDiGraph:
        """Nodes are graphc Nodes and Values of inputs; an edge carries the value. For order, cycles and drawing."""
        import networkx as nx

        g = nx.MultiDiGraph(name=self.name)
        maker: dict[Value, Any] = {v: v for v in self.inputs}
        for v in self.inputs:
            g.add_node(v, label=v.name, kind="input")
        for n in self.nodes:
            g.add_node(n, label=n.op.name, kind=n.op.family.value)
            for v in n.outputs:
                maker[v] = n
        for n in self.nodes:
            for v in n.operands:
                if v in maker:
                    g.add_edge(maker[v], n, value=v)
        return g

    def __repr__(self) -> str:
        given = ", ".join(f"{v.name}: {v.type}" for v in self.inputs)
        made = ", ".join(f"{name}: {v.type}" for name, v in zip(self.output_names, self.outputs))
        return f"Graph '{self.name}', {len(self.nodes)} nodes: {given} -> {made}"

    def _repr_html_(self) -> str:
        from graphc.tables import html_table

        rows = []
        for i, n in enumerate(self.nodes):
            read, made = (v.name if v else "-" for v in n.inputs), (str(v.type) for v in n.outputs)
            rows.append((i, n.name, n.op.name, ", ".join(read), ", ".join(made)))
        return html_table((">#", "name", "op", "from", "makes"), rows, repr(self))

    def __str__(self) -> str:
        head = ", ".join(map(repr, self.inputs))
        body = "\n".join(f"  {n!r}" for n in self.nodes)
        return f"graph {self.name}({head}) {{\n{body}\n  return {', '.join(f'%{v.name}' for v in self.outputs)}\n}}"


class Builder:
    """Makes a graph node by node, with types inferred on the way.

    >>> b = Builder("mlp")
    >>> x = b.input("x", "float32", (1, 4))
    >>> y = b.add("Relu", x)
    >>> graph = b.build({"y": y})
    """

    def __init__(self, name: str = "graph", source: Location | None = None, prefix: str = "") -> None:
        self.name, self.source, self.prefix = name, source, prefix
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self._count = 0

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[Dim | str]) -> Value:
        if any(v.name == name for v in self.inputs):
            raise GraphcError(f"two inputs are named '{name}'", hint="callers tell inputs apart by their names")
        self.inputs.append(Value(name, TensorType(np.dtype(dtype), tuple(shape))))
        return self.inputs[-1]

    def constant(self, data: Any, dtype: DTypeLike | None = None, name: str = "") -> Value:
        return constant(name or self._fresh("const"), array_of(data, dtype))

    def add(
        self,
        op: str | Op,
        *inputs: Value | None,
        name: str = "",
        outputs: Sequence[str] | int = 1,
        source: Location | None = None,
        types: Sequence[TensorType | None] | None = None,
        **attrs: Any,
    ) -> Any:
        """Append a node; returns its output Value, or a tuple of them when `outputs` is not 1. types: see `make_node`."""
        name = name or self._fresh(op if isinstance(op, str) else op.name)
        if isinstance(outputs, int):
            names = [name if outputs == 1 else f"{name}.{i}" for i in range(outputs)]
        else:
            names = list(outputs)
        node = make_node(op, inputs, attrs, name=name, outputs=names, source=source or self.source, types=types)
        self.nodes.append(node)
        return node.outputs[0] if len(names) == 1 else node.outputs

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{self.prefix}{stem}_{self._count}"

    def build(self, outputs: Mapping[str, Value] | Sequence[Value], meta: Mapping[str, Any] | None = None) -> Graph:
        """The graph of these results, by name or under their own names.

        Raises GraphcError where two values would be results of one name.
        """
        if isinstance(outputs, Mapping):
            names, values = tuple(outputs), tuple(outputs.values())
        else:
            names, values = tuple(v.name for v in outputs), tuple(outputs)
        known: dict[str, Value] = {}
        for name, v in zip(names, values):
            if known.setdefault(name, v) is not v:
                raise GraphcError(f"two results are named '{name}'", hint="name them: build({'first': v, 'second': w})")
        return Graph(self.name, tuple(self.inputs), values, tuple(self.nodes), names, dict(meta or {}))


class Rewriter(Builder):
    """A builder for one sweep over a graph: nodes are copied with their operands mapped, or replaced.

    `map[v]` is the new value of an old one. `add` builds replacements, whose names begin with the replaced node's.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.name)
        self.graph = graph
        self.map: dict[Value, Value] = {v: v for v in graph.inputs}
        self.inputs = list(graph.inputs)

    def __call__(self, v: Value | None) -> Value | MaybeNone:
        """The new value of an old one."""
        return None if v is None else self.map.get(v, v)

    def copy(self, node: Node) -> Node:
        """The node over the new values. Types are inferred again only where an operand's type has changed."""
        inputs = tuple(self(v) for v in node.inputs)
        if all(a is b for a, b in zip(inputs, node.inputs)):
            new = node
        else:
            same = all(a is None or a.type == b.type and (a.data is b.data) for a, b in zip(inputs, node.inputs))
            if same and all(o.type is not None for o in node.outputs):
                new = replace(node, inputs=inputs, outputs=tuple(replace(o) for o in node.outputs))
            else:
                new = make_node(
                    node.op,
                    inputs,
                    node.attrs,
                    name=node.name,
                    outputs=[o.name for o in node.outputs],
                    source=node.source,
                )
        self.nodes.append(new)
        self.map.update(zip(node.outputs, new.outputs))
        return new

    def finish(self) -> Graph:
        g = self.graph
        outputs = tuple(self(v) for v in g.outputs)
        return replace(g, inputs=tuple(self.inputs), outputs=outputs, nodes=tuple(self.nodes))


Rule = Callable[[Node, Rewriter], "Value | Sequence[Value] | None"]


def sweep(graph: Graph, rule: Rule) -> Graph:
    """Rebuild the graph once. `rule(node, rewriter)` returns replacements of the node's outputs, or None to keep it.

    Within the rule, `rewriter(v)` gives the new value of an old operand and `rewriter.add(…)` makes nodes. Dead nodes are
    left for `passes.dead_code`.
    """
    rw = Rewriter(graph)
    for node in graph.nodes:
        rw.prefix, rw.source = f"{node.name or node.outputs[0].name}/", node.source
        new = rule(node, rw)
        if new is None:
            rw.copy(node)
        else:
            new = (new,) if isinstance(new, Value) else tuple(new)
            rw.map.update(zip(node.outputs, new))
    return rw.finish()


def topological(nodes: Iterable[Node], inputs: Iterable[Value]) -> tuple[Node, ...]:
    """Nodes in topological order, ties in the given order. Raises GraphcError that names a cycle."""
    import networkx as nx

    nodes = list(nodes)
    maker = {v: n for n in nodes for v in n.outputs}
    g = nx.DiGraph()
    g.add_nodes_from(nodes)
    g.add_edges_from((maker[v], n) for n in nodes for v in n.operands if v in maker)
    rank = {n: i for i, n in enumerate(nodes)}
    try:
        return tuple(nx.lexicographical_topological_sort(g, key=rank.__getitem__))
    except nx.NetworkXUnfeasible:
        cycle = nx.find_cycle(g)
        raise GraphcError(f"the graph has a cycle: {' -> '.join(a.name for a, *_ in cycle)}") from None

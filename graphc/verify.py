"""The invariants of a graph. Tests run this after every pass, so that a broken graph names the pass that broke it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphc.errors import GraphcError
from graphc.graph import Graph, Node, Value
from graphc.op import Deferred
from graphc.state import shared, types
from graphc.types import TensorType


class BrokenInvariant(AssertionError):
    """A graph that no correct pass may leave behind: a fault of graphc, never of a model."""


def verify(graph: Graph, after: str = "") -> None:
    """Check the graph and the subgraphs in its attributes. Raises BrokenInvariant with every invariant that is broken.

    - SSA: every value is made once, before it is used, and every operand is an input, a constant or made by a node;
    - results exist and have names, one each; results of one name are one value;
    - names of values, and those of nodes that have one, are unique;
    - operands are as many as the operator takes, attributes complete and of their types;
    - types are what the type rules infer again, and those of constants are those of their arrays;
    - states are of inputs and results that exist, each in one state at most, and whose types do not contradict each other.

    `after` names the pass that made the graph.
    """
    problems = [*_names(graph), *_order(graph), *_constants(graph), *(p for n in graph.nodes for p in _node(n))]
    problems += _states(graph)
    if problems:
        origin = f" after pass '{after}'" if after else ""
        lines = "\n".join(f"- {p}" for p in problems)
        raise BrokenInvariant(f"graph '{graph.name}' is broken{origin}:\n{lines}")
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, Graph):
                verify(value, after)


def _names(graph: Graph) -> Iterator[str]:
    """A constant may share its name with an input: binding fixes inputs to constants and keeps the signature."""
    made = [v for n in graph.nodes for v in n.outputs]
    yield from _twice("value", [v.name for v in {*graph.inputs, *made}])
    yield from _twice("value", [v.name for v in {*graph.constants(), *made}])
    yield from _twice("node", [n.name for n in graph.nodes if n.name])
    yield from _twice("result", [n for n, _ in {*zip(graph.output_names, graph.outputs)}])
    if len(graph.output_names) != len(graph.outputs):
        yield f"{len(graph.outputs)} results have {len(graph.output_names)} names"


def _twice(what: str, names: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f"two {what}s are named '{name}'"
        seen.add(name)


def _order(graph: Graph) -> Iterator[str]:
    known: set[Value] = set(graph.inputs)
    later = {v for n in graph.nodes for v in n.outputs}
    for node in graph.nodes:
        for v in node.operands:
            if v not in known and not v.is_const:
                yield f"{_at(node)} uses '{v.name}' {'before it is made' if v in later else 'that nothing makes'}"
        for v in node.outputs:
            if v in known:
                yield f"{_at(node)} makes '{v.name}' again"
            if v.is_const:
                yield f"{_at(node)} makes the constant '{v.name}'"
            known.add(v)
    for v in graph.outputs:
        if v not in known and not v.is_const:
            yield f"nothing makes the result '{v.name}'"


def _constants(graph: Graph) -> Iterator[str]:
    for v in graph.constants():
        actual = TensorType(v.data.dtype, v.data.shape)
        if v.type != actual:
            yield f"constant '{v.name}' holds {actual} but has type {v.type}"
        if v.data.flags.writeable:
            yield f"constant '{v.name}' is writeable"


def _states(graph: Graph) -> Iterator[str]:
    yield from shared(graph.states)
    inputs = [v.name for v in graph.inputs]
    for state in graph.states:
        if state.input not in inputs or state.output not in graph.output_names:
            yield f"state '{state.name}' is of the input '{state.input}' and the result '{state.output}', which are not both there"
            continue
        a, b = types(graph, state)
        if a is not None and b is not None and _contradict(a, b):
            yield f"state '{state.name}' is {a} as an input and {b} as a result"


def _contradict(a: TensorType, b: TensorType) -> bool:
    """Is it certain that they are not one type? Dims may be known less well before the passes than after them."""
    if a.dtype != b.dtype or a.rank != b.rank:
        return True
    return any(isinstance(d, int) and isinstance(e, int) and d != e for d, e in zip(a.shape, b.shape))


def _node(node: Node) -> Iterator[str]:
    op = node.op
    missing = [
        name for name, v in zip(op.inputs, (*node.inputs, *[None] * len(op.inputs))) if v is None and name[0] != "*"
    ]
    missing = [name for name in missing if not name.endswith("?")]
    if missing:
        yield f"{_at(node)} lacks its operands {', '.join(missing)}"
    if len(node.inputs) > len(op.inputs) and not op.variadic:
        yield f"{_at(node)} has {len(node.inputs)} operands, its operator takes {len(op.inputs)}"
    if absent := op.attrs.keys() - node.attrs.keys():
        yield f"{_at(node)} lacks its attributes {', '.join(sorted(absent))}"
    if missing or absent:
        return
    try:
        op.complete_attrs(node.attrs)
        inferred = list(op.infer(node.call))
    except Deferred:
        return
    except GraphcError as error:
        yield f"{_at(node)} is not valid: {error}"
        return
    for v, want in zip(node.outputs, inferred):
        stored = v.type and replace(v.type, layout=None)  # layouts are a backend's choice, no rule infers them
        if stored != (want and replace(want, layout=None)):
            yield f"{_at(node)} makes '{v.name}' of type {v.type}, its type rule says {want}"
    if len(inferred) < len(node.outputs):
        yield f"{_at(node)} has {len(node.outputs)} outputs, its type rule knows {len(inferred)}"


def _at(node: Node) -> str:
    return f"{node.op.name} '{node.name or node.outputs[0].name}'"

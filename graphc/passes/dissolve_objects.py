"""Sequences and optionals whose elements are known become these: what an operator takes out of one is there already.

The form of such a value is the node that makes it of its elements: SequenceConstruct, SequenceEmpty, Optional. A rule that
finds one behind its operand leaves elements, or another such node. What none applies to stays as it is, and runs on the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.bundles import is_bundle
from graphc.graph import Graph, Node, Value
from graphc.objects import ObjectType, is_object
from graphc.op import Family
from graphc.ops.control import trips
from graphc.passes.fold_constants import fold_constants
from graphc.passes.inline_branches import inline_branches
from graphc.passes.log import Log
from graphc.passes.rewrite import Rewrite, Skip, Sweep
from graphc.sizes import is_size
from graphc.types import TensorType

MOST_ELEMENTS = 256  # of one sequence: each is a value of the graph
MOST_NODES = 512  # of a loop whose trips are written out


@dataclass(frozen=True)
class DissolveObjects:
    """With what makes lengths, positions and conditions known, until nothing is left to do."""

    name: str = "dissolve_objects"

    def __call__(self, graph: Graph, log: Log | None = None) -> Graph:
        while any(n.op.family is Family.SEQUENCE or any(is_object(v.type) for v in n.operands) for n in graph.nodes):
            before = graph
            for step in (fold_constants, inline_branches, rules):
                graph = step(graph, log)
            if graph is before:
                break
        return graph


dissolve_objects = DissolveObjects()
rules = Rewrite(dissolve_objects.name)


def _elements(sweep: Sweep, v: Value) -> tuple[Value, ...] | None:
    """Of a sequence; None where they are not known."""
    maker = sweep.producer(v, "SequenceConstruct", "SequenceEmpty")
    return None if maker is None else tuple(maker.operands)


def _position(node: Node, i: int, length: int, default: int = -1) -> int | None:
    """The position that operand i says; None where it is not known or out of range. default: where there is no such operand."""
    v = node.inputs[i] if i < len(node.inputs) else None
    if v is not None and (not v.is_const or v.data.size != 1):
        return None
    at = default if v is None else v.data.reshape(-1)[0].__index__()
    return at if 0 <= at < length or at == default >= 0 else at + length if -length <= at < 0 else None


def _made(node: Node, sweep: Sweep, items: Sequence[Value]) -> Value | Skip:
    """The sequence of these elements, in the place of the node."""
    if items:
        if len(items) > MOST_ELEMENTS:
            return Skip(f"it has more than {MOST_ELEMENTS} elements")
        return sweep.remake(node, *items, op="SequenceConstruct")
    of = node.output.type.of if isinstance(node.output.type, ObjectType) else None
    if of is None or isinstance(of, ObjectType) or of.dtype is None:
        return Skip("an empty sequence of what is not known")
    return sweep.remake(node, op="SequenceEmpty", attrs={"dtype": of.dtype})


def dissolving(graph: Graph, known: Iterable[Value] = ()) -> Iterator[Node]:
    """Nodes of which nothing is left where their positions and lengths are known, as sequences and optionals are that are made of
    tensors. known: others of these."""
    apart = set(known)
    for node in graph.nodes:
        made = node.op.objects and (node.op.name in rules.rules or is_bundle(node))
        if made and all(v in apart for v in node.operands if is_object(v.type)):
            apart.update(node.outputs)
            yield node


def arranging(node: Node) -> list[Value]:
    """The positions and lengths that it reads."""
    found = (node.inputs[i] for i in node.op.arranges if i < len(node.inputs))
    return [v for v in found if v is not None]


# --- sequences ----------------------------------------------------------------------------------------------------------
@rules.on("Identity")
def the_same(node: Node, sweep: Sweep) -> Value | None:
    return node.inputs[0] if is_object(node.inputs[0].type) else None


@rules.on("SequenceLength")
def length(node: Node, sweep: Sweep) -> Value | None:
    items = _elements(sweep, node.inputs[0])
    return None if items is None else sweep.constant(len(items), np.int64)


@rules.on("SequenceAt")
def at_a_known_position(node: Node, sweep: Sweep) -> Value | None:
    items = _elements(sweep, node.inputs[0])
    at = None if items is None else _position(node, 1, len(items))
    return None if items is None or at is None else items[at]


@rules.on("SequenceInsert")
def inserted_at_a_known_position(node: Node, sweep: Sweep) -> Value | Skip | None:
    items = _elements(sweep, node.inputs[0])
    at = None if items is None else _position(node, 2, len(items), len(items))
    if items is None or at is None:
        return None
    return _made(node, sweep, (*items[:at], node.inputs[1], *items[at:]))


@rules.on("SequenceErase")
def erased_at_a_known_position(node: Node, sweep: Sweep) -> Value | Skip | None:
    items = _elements(sweep, node.inputs[0])
    at = None if items is None else _position(node, 1, len(items))
    return None if items is None or at is None else _made(node, sweep, (*items[:at], *items[at + 1 :]))


@rules.on("ConcatFromSequence")
def joined(node: Node, sweep: Sweep) -> Value | Skip | None:
    items = _elements(sweep, node.inputs[0])
    if not items:
        return None
    if any(v.type is None or not v.type.is_static for v in items):
        return Skip("shapes of elements are not known")
    axis, new = node.attrs["axis"], node.attrs["new_axis"]
    shapes = {tuple(v.shape) for v in items} if new else {_without(v.type, axis) for v in items}
    if len(shapes) > 1:
        return Skip("shapes of elements do not fit")
    axes = sweep.constant([axis], np.int64)
    parts = [sweep.add("Unsqueeze", v, axes) for v in items] if new else items
    return sweep.remake(node, *parts, op="Concat", attrs={"axis": axis})


def _without(t: TensorType, axis: int) -> tuple:
    at = axis % t.rank if t.rank else 0
    return (*t.shape[:at], None, *t.shape[at + 1 :])


@rules.on("SplitToSequence")
def parts_of_known_sizes(node: Node, sweep: Sweep) -> Value | Skip | None:
    x, split = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    if x.type is None or (split is not None and not split.is_const):
        return None
    axis = node.attrs["axis"] % x.type.rank
    size = x.shape[axis]
    if not isinstance(size, int):
        return None
    if is_size(size):
        return Skip("the number of parts stands for many")
    if split is not None and split.data.ndim:
        sizes = split.data.tolist()
        fit = sum(sizes) == size and all(n >= 0 for n in sizes)
    else:
        step = 1 if split is None else split.data.reshape(-1)[0].__index__()
        fit = step >= 1 and size <= step * MOST_ELEMENTS
        sizes = [min(step, size - at) for at in range(0, size, step)] if fit else []
    if not fit or len(sizes) > MOST_ELEMENTS:
        return Skip("the sizes of parts do not fit the dim, or are too many")
    if not sizes:
        return _made(node, sweep, ())
    parts = sweep.add("Split", x, sweep.constant(sizes, np.int64), axis=axis, outputs=len(sizes))
    parts = parts if isinstance(parts, tuple) else (parts,)
    if split is None and not node.attrs["keepdims"]:
        axes = sweep.constant([axis], np.int64)
        parts = tuple(sweep.add("Squeeze", v, axes) for v in parts)
    return _made(node, sweep, parts)


# --- optionals ----------------------------------------------------------------------------------------------------------
def _is_optional(v: Value) -> bool:
    return isinstance(v.type, ObjectType) and v.type.kind == "optional"


@rules.on("OptionalHasElement")
def there_or_not(node: Node, sweep: Sweep) -> Value | None:
    x = node.inputs[0] if node.inputs else None
    if x is None or (x.type is not None and not _is_optional(x)):
        return sweep.constant(x is not None, np.bool_)
    maker = sweep.producer(x, "Optional")
    return None if maker is None else sweep.constant(bool(maker.operands), np.bool_)


@rules.on("OptionalGetElement")
def what_is_there(node: Node, sweep: Sweep) -> Value | None:
    x = node.inputs[0]
    if x.type is not None and not _is_optional(x):
        return x
    maker = sweep.producer(x, "Optional")
    return maker.operands[0] if maker is not None and maker.operands else None


# --- loops --------------------------------------------------------------------------------------------------------------
@rules.on("Loop")
def written_out(node: Node, sweep: Sweep) -> tuple[Value, ...] | Skip | None:
    """One that reads sequences or optionals and has a known number of trips is its body, so many times."""
    if not any(is_object(v.type) for v in node.operands):
        return None
    body, n, count = node.attrs["body"], node.attrs["n_states"], trips(node)
    if count is None:
        return Skip("the number of its trips is not known")
    if count * len(body.nodes) > MOST_NODES:
        return Skip(f"its trips are more than {MOST_NODES} nodes")
    states, captures = list(node.inputs[2 : 2 + n]), node.inputs[2 + n :]
    collected: list[list[Value]] = [[] for _ in node.outputs[n:]]
    for i in range(count):
        trip = (sweep.constant(i, np.int64), sweep.constant(True, np.bool_), *states, *captures)
        _, *results = sweep.inlined(body, trip, f"{node.name}/{i}")
        states = results[:n]
        for items, item in zip(collected, results[n:]):
            items.append(item)
    types = [v.type for v in node.outputs[n:]]
    if any(len({v.type for v in items}) > 1 or t is None or not t.is_static for items, t in zip(collected, types)):
        return Skip("what it collects is of several types, or of none that is known")
    return (*states, *(_stacked(sweep, items, t) for items, t in zip(collected, types)))


def _stacked(sweep: Sweep, items: Sequence[Value], t: TensorType) -> Value:
    if not items:
        return sweep.constant(np.zeros(t.extents, t.dtype))
    axes = sweep.constant([0], np.int64)
    return sweep.add("Concat", *(sweep.add("Unsqueeze", v, axes) for v in items), axis=0)

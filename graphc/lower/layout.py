"""Layout assignment: which values are kept channel-blocked, with how wide a halo, and where reorders go.

Windowed operators want blocked activations; elementwise operators, channel concatenation and what a backend names take what
they are given; everything else is dense. A backend says what it wants through `LayoutRules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from graphc.expr import is_finite
from graphc.graph import Graph, Node, Rewriter, Value
from graphc.lower.fuse import scalar_of
from graphc.types import Blocked, TensorType

Halos = dict[tuple[Value, str], tuple[int, int]]


@dataclass(frozen=True)
class LayoutRules:
    """What a backend wants.

    c              channels per block
    form(node)     'blocked' or 'planar' (one channel per block) for operand 0 of a node with a windowed kernel, whose result
                   is then blocked; None for others
    halo(node)     columns of zeros that it reads left and right of operand 0
    follows(node)  for a node whose operand 0 is blocked and whose other operands are constants: 'parts' if its results are
                   channel blocks of operand 0, in place; 'own' if it reads blocks and makes blocks; None if it wants operand 0
                   dense. For a Concat along channels that begin inside blocks: 'own' or None
    """

    c: int
    form: Callable[[Node], str | None]
    halo: Callable[[Node], tuple[int, int]]
    follows: Callable[[Node], str | None] = lambda node: None


def assign_layouts(graph: Graph, rules: LayoutRules) -> Graph:
    """The graph with layouts in its types and Reorder nodes at the borders of blocked regions. Needs static types."""
    forms, blocked = _decide(graph, rules)
    halos = _halos(graph, rules, forms, blocked)
    return _rebuild(graph, rules, forms, blocked, halos)


def reorder_each(graph: Graph, rules: LayoutRules) -> Graph:
    """The plain alternative: no regions. A node with a form has Reorder nodes of its own, of operand 0 and of its result."""
    rw = Rewriter(graph)
    for node in graph.nodes:
        form = rules.form(node)
        if form is None:
            rw.copy(node)
            continue
        rw.prefix, name = f"{node.outputs[0].name}/", node.outputs[0].name
        left, right = rules.halo(node)
        x = rw.add("Reorder", rw(node.inputs[0]), c=_block(form, rules), left=left, right=right, name=f"{name}/{form}")
        outputs = tuple(replace(v) for v in node.outputs)
        made = replace(outputs[0], type=replace(outputs[0].type, layout=Blocked(rules.c, 0, 0)))
        rw.nodes.append(replace(node, inputs=(x, *map(rw, node.inputs[1:])), outputs=(made, *outputs[1:])))
        dense = rw.add("Reorder", made, c=0, left=0, right=0, name=f"{name}/dense")
        rw.map.update(zip(node.outputs, (dense, *outputs[1:])))
    return rw.finish()


def _block(form: str, rules: LayoutRules) -> int:
    """Channels in a block of a form, 0 where it has none."""
    return {"blocked": rules.c, "planar": 1, "dense": 0}[form]


def _decide(graph: Graph, rules: LayoutRules) -> tuple[dict[Node, str], set[Value]]:
    """Form of each node that works on blocks, and the values that are blocked."""
    forms: dict[Node, str] = {}
    blocked: set[Value] = set()
    for node in graph.nodes:
        form = rules.form(node)
        if form is None and _elementwise_in_blocks(node, rules.c, blocked):
            form = "elementwise"
        if form is None and _concat_in_blocks(node, rules.c, blocked):
            form = "concat"
        if form is None and _only_blocked(node, blocked):
            form = rules.follows(node)
        if form is not None:
            forms[node] = form
            blocked.update(node.outputs if form in ("parts", "own") else node.outputs[:1])
    return forms, blocked


def _elementwise_in_blocks(node: Node, c: int, blocked: set[Value]) -> bool:
    if not node.op.elementwise or not any(v in blocked for v in node.operands):
        return False
    out = node.output.type
    if any(v.dtype != np.float32 for v in (*node.operands, node.output)):
        return False
    if node.output.shape[1] % c and not _is_finite(node):
        return False
    return all(v in blocked and _per_channel_or_same(v, out) or _fits_blocks(v, out, node) for v in node.operands)


def _is_finite(node: Node) -> bool:
    """Does it map finite numbers to finite ones? Only then may it run on blocks that the channels do not fill: the lanes behind
    the last channel hold what it makes of zeros, and a zero weight times infinity is NaN."""
    return node.op.finite or (node.op.scalar is not None and is_finite(scalar_of(node)))


def _per_channel_or_same(v: Value, out: TensorType) -> bool:
    """A blocked operand: equal shape, or broadcast over batch and space but not over channels."""
    return (
        v.type.rank == out.rank and v.shape[1] == out.shape[1] and all(a in (b, 1) for a, b in zip(v.shape, out.shape))
    )


def _fits_blocks(v: Value, out: TensorType, node: Node) -> bool:
    if v.is_const:  # a number, or one number per channel
        shape = (1,) * (out.rank - v.type.rank) + v.shape
        return v.data.size == 1 or (v.data.size == shape[1] == out.shape[1])
    return v.type.rank == out.rank and v.shape == out.shape and out.rank >= 3  # a dense operand is reordered


def _concat_in_blocks(node: Node, c: int, blocked: set[Value]) -> bool:
    if node.op.name != "Concat" or node.output.type.rank < 3 or node.output.dtype != np.float32:
        return False
    if node.attrs["axis"] % node.output.type.rank != 1 or not any(v in blocked for v in node.operands):
        return False
    return all(v.shape[1] % c == 0 for v in node.operands[:-1])


def _only_blocked(node: Node, blocked: set[Value]) -> bool:
    """Are the operands that are not constant blocked, operand 0 among them?"""
    return bool(node.operands) and node.inputs[0] in blocked and all(v.is_const or v in blocked for v in node.operands)


def _halos(graph: Graph, rules: LayoutRules, forms: dict[Node, str], blocked: set[Value]) -> Halos:
    """(value, form) -> columns of zeros left and right: what its widest reader wants. Parts of a concatenation or a split
    share rows with the whole, so they share its halo."""
    root: dict[Value, Value] = {}

    def find(v: Value) -> Value:
        while v in root:
            v = root[v]
        return v

    for node, form in forms.items():
        if form == "concat":
            parts, whole = node.operands, node.output
        elif form == "parts":
            parts, whole = node.outputs, node.inputs[0]
        else:
            continue
        for v in parts:
            if v in blocked and find(v) is not find(whole):
                root[find(v)] = find(whole)
    wanted: dict[tuple[Value, str], tuple[int, int]] = {}
    for node, form in forms.items():
        if form in ("blocked", "planar"):
            key = find(node.inputs[0]), form
            have = wanted.get(key, (0, 0))
            left, right = rules.halo(node)
            wanted[key] = max(have[0], left), max(have[1], right)
    return {(v, form): wanted.get((find(v), form), (0, 0)) for v in graph.values() for form in ("blocked", "planar")}


def _rebuild(graph: Graph, rules: LayoutRules, forms: dict[Node, str], blocked: set[Value], halos: Halos) -> Graph:
    rw = Rewriter(graph)
    converted: dict[tuple[Value, str], Value] = {}

    def as_form(old: Value, form: str) -> Value:
        """The new value of `old` in a form, through a Reorder where needed."""
        new = rw(old)
        now = "blocked" if old in blocked else "dense"
        if now == form:
            return new
        if (old, form) not in converted:
            c = _block(form, rules)
            left, right = halos[old, form] if c else (0, 0)
            if c and now == "blocked":  # a Reorder goes from or to dense
                new = as_form(old, "dense")
            rw.prefix = f"{old.name}/"
            converted[old, form] = rw.add("Reorder", new, c=c, left=left, right=right, name=f"{old.name}/{form}")
        return converted[old, form]

    for node in graph.nodes:
        form = forms.get(node)
        if form is None:
            inputs = tuple(v if v is None else as_form(v, "dense") for v in node.inputs)
        elif form == "concat":
            inputs = tuple(as_form(v, "blocked") for v in node.inputs)
        elif form in ("elementwise", "parts", "own"):
            inputs = tuple(v if v is None or v.is_const else as_form(v, "blocked") for v in node.inputs)
        else:
            rest = tuple(
                v if v is None or v.is_const or v not in blocked else as_form(v, "dense") for v in node.inputs[1:]
            )
            inputs = (as_form(node.inputs[0], form), *rest)
        outputs = tuple(_with_layout(v, rules.c, halos) if v in blocked else replace(v) for v in node.outputs)
        new = replace(node, inputs=inputs, outputs=outputs)
        rw.nodes.append(new)
        rw.map.update(zip(node.outputs, outputs))
    finals = {v: as_form(v, "dense") for v in graph.outputs}
    done = rw.finish()
    return replace(done, outputs=tuple(finals[v] for v in graph.outputs))


def _with_layout(v: Value, c: int, halos: Halos) -> Value:
    return replace(v, type=replace(v.type, layout=Blocked(c, *halos[v, "blocked"])))

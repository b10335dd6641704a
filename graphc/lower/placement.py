"""Where the values of a graph live before its steps are emitted: the caller's arrays, and parts of concatenations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from graphc.classes import Many
from graphc.graph import Graph, Node, Value
from graphc.growing import CantGrow, results_of
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.storage import ExternBuffer, Ref, dense_strides
from graphc.sizes import is_size_array
from graphc.source_files import owned
from graphc.types import TensorType


def extern(v: Value, t: TensorType | None = None) -> ExternBuffer:
    """t: of the array, where it is not the value's."""
    t = t or v.type
    return ExternBuffer(v.name, t.nbytes, "extern", shape=t.extents, dtype=v.dtype)


def place_externals(
    lo: Lowering,
    graph: Graph,
    groups: list[Group],
    native: bool,
    results: bool = True,
    many: Many | None = None,
) -> None:
    """Inputs and results live in the caller's arrays. A result that is not one kernel's dense output is copied at the end;
    without `results`, every result is.

    native: no step runs on the host, which sees the caller's arrays in the shape of the results. Then what a result has the
    bytes of lives there, too. many: says which states grow in place: each lives in one array before and after.
    """
    growing = () if many is None else many.growing
    for v in graph.inputs:
        buffer = extern(v, _with_room(v, many))
        lo.program.inputs.append(buffer)
        lo.place(v, Ref(buffer), dense_strides(_with_room(v, many)))
    inputs = {v.name: v for v in graph.inputs}
    outputs = dict(zip(graph.output_names, graph.outputs))
    for g in growing:
        whole = lo.storage[inputs[g.input]]
        lo.place(outputs[g.output], whole.ref, whole.strides)
    made = {o: g for g in groups for n in g.nodes for o in n.outputs}
    for _, v in results_of(graph, growing):
        if v.is_const and not is_size_array(v.data):
            lo.program.outputs.append(owned(np.asarray(v.data)))
        else:
            buffer = extern(v)
            lo.program.outputs.append(buffer)
            if results:
                place_result(lo, v, Ref(buffer), made, native)


def place_result(lo: Lowering, v: Value, ref: Ref, made: Mapping[Value, Group], native: bool) -> None:
    """Let the group that makes a value write it to contiguous memory; and what it has the bytes of, if no step runs on the
    host. made: the groups by what they make."""
    while v in made and v not in lo.storage and v.type.layout is None:
        lo.place(v, ref)
        first, *others = made[v].nodes
        rule = lo.rules.rule_of(first)
        if not native or others or rule is None or not rule.view:
            break
        v = first.inputs[0]


def _with_room(v: Value, many: Many | None) -> TensorType:
    """The type of the array that an input lives in."""
    axes = [] if many is None else [g.axis for g in many.growing if g.input == v.name]
    shape = tuple(many.capacity if many is not None and i in axes else d for i, d in enumerate(v.shape))
    return replace(v.type, shape=shape)


def require_growing(graph: Graph, many: Many, compiled: Callable[[Node], bool]) -> None:
    """Raises CantGrow where a state is not appended to by a kernel."""
    producers = graph.producers()
    outputs = dict(zip(graph.output_names, graph.outputs))
    for g in many.growing:
        v = outputs[g.output]
        if v.type.layout is not None or not compiled(producers[v]):
            raise CantGrow(f"'{g.output}' is no dense value that a kernel makes")


def place_concatenations(lo: Lowering, groups: Sequence[Group], without: Collection[Group] = ()) -> None:
    """Let producers write straight into their part of a concatenation.

    Possible where the part is one piece of memory: channel blocks of a blocked value, or a dense concatenation along the
    first dim that is not 1; and where it has gaps if both have their channels innermost, and its kernel can do that. Later concatenations first, so that nested ones share the outermost buffer. `without`: groups
    that are left alone.
    """
    producers = {v: g for g in groups for n in g.nodes for v in n.outputs}
    for group in reversed(groups):
        node = group.nodes[0]
        if node.op.name != "Concat" or len(group.nodes) > 1 or group in without:
            continue
        out = node.output
        axis = node.attrs["axis"] % out.type.rank
        blocked, last = out.type.layout is not None, out in lo.channels_last
        if not blocked and not last and any(d != 1 for d in out.shape[:axis]):
            continue
        if blocked and any(v.shape[1] % out.type.blocks.c for v in node.operands[:-1]):
            continue  # a part begins inside a block
        whole = lo.storage.get(out) or lo.reserve(out)
        at = 0
        for v in node.operands:
            made = v in producers and not _is_view(lo, producers[v])
            if made and v not in lo.storage and v.type.layout == out.type.layout:
                if last:
                    if v in lo.channels_last and _writes_gaps(lo, producers[v]):
                        lo.place(v, whole.ref + at * whole.strides[axis], whole.strides, True)
                elif blocked:
                    lo.place(v, whole.ref + at // out.type.blocks.c * whole.strides[1], whole.strides)
                elif v not in lo.channels_last:
                    lo.place(v, whole.ref + at * whole.strides[axis], dense_strides(v.type))
            at += v.shape[axis]


def _writes_gaps(lo: Lowering, group: Group) -> bool:
    """Can its kernel write a result whose channels are innermost, with gaps behind each pixel's?"""
    rule = None if group.anchor is None else lo.rules.rule_of(group.anchor)
    return group.anchor is None or (rule is not None and rule.channels_last(group.anchor) == "any")


def _is_view(lo: Lowering, group: Group) -> bool:
    rule = lo.rules.rule_of(group.nodes[0])
    return rule is not None and rule.aliases

"""Reductions over any axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphc import expr as e
from graphc.dtypes import is_narrow
from graphc.graph import Node
from graphc.lower.elementwise import emit_map
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.registry import NEUTRAL, native_dtypes
from graphc.lower.storage import Buffer, Ref, channels_last_order
from graphc.lower.verbs import Around, Reducer
from graphc.ops.reduce import reduced_axes
from graphc.report import StepInfo


def accumulator(dtype: np.dtype) -> np.dtype:
    """What sums of a dtype are kept in."""
    return np.dtype(np.float32) if is_narrow(dtype) else dtype


def groups_of(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, bool]]:
    """The shape as (extent, reduced?) with neighbours of a kind merged and extents of 1 left out."""
    groups: list[tuple[int, bool]] = []
    for i, d in enumerate(shape):
        reduced = i in axes
        if d == 1:
            continue
        if groups and groups[-1][1] == reduced:
            groups[-1] = (groups[-1][0] * d, reduced)
        else:
            groups.append((d, reduced))
    return groups


def emit_reduction_over(
    lo: Lowering, r: Reducer, x: Ref, shape: Sequence[int], axes: Sequence[int], out: Ref, info: StepInfo
) -> None:
    """Reduce over several axes: the innermost neighbours first, what is left after them again."""
    groups = groups_of(shape, axes)
    count = math.prod(shape[a] for a in axes)
    at = [i for i, (_, reduced) in enumerate(groups) if reduced]
    while len(at) > 1:
        outer, size, inner = _split(groups, at[-1])
        partial = Ref(Buffer(f"{info.output}/partial{len(at)}", outer * inner * r.partial.itemsize))
        lo.reduce(r.first(), x, (outer, size, inner), partial, count, info)
        groups.pop(at[-1])
        x, r, info = partial, r.rest(), replace(info, nbytes=0, flops=0)
        groups = _merged(groups)
        at = [i for i, (_, reduced) in enumerate(groups) if reduced]
    lo.reduce(r, x, _split(groups, at[0]) if at else (math.prod(shape), 1, 1), out, count, info)


def _split(groups: list[tuple[int, bool]], at: int) -> Around:
    extents = [d for d, _ in groups]
    return math.prod(extents[:at]), extents[at], math.prod(extents[at + 1 :])


def _merged(groups: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    return groups_of([d for d, _ in groups], [i for i, (_, reduced) in enumerate(groups) if reduced])


def reducer_of(node: Node) -> Reducer:
    """A Reduce* operator's own record, sums of narrow floats in float32."""
    reduction, dtype = node.op.reduction, node.inputs[0].dtype
    assert reduction is not None, node.op.name
    return Reducer(
        dtype, reduction.combine, lambda x: e.cast(reduction.map(x), accumulator(x.dtype)), reduction.finish, dtype
    )


@NEUTRAL.lowers_where(
    lambda op: op.reduction is not None,
    supported=native_dtypes,
    channels_last=lambda node: "read" if keeps_order(node, reduced_axes(node.call)) else "",
)
def lower_reduction(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    out = lo.write(node.output)
    if node.output.type.elements == 0:
        return
    r, axes, shape = reducer_of(node), reduced_axes(node.call), node.inputs[0].shape
    if not any(shape[a] != 1 for a in axes):  # each element by itself
        x = lo.read(node.inputs[0])
        total = r.map(e.arg(0, r.dtype))
        expression = e.cast(r.finish(total, e.const(1, total.dtype)), r.dtype)
        plain = replace(group, anchor=None, expression=expression, operands=(node.inputs[0],))
        item = r.dtype.itemsize
        emit_map(lo, plain, [node.output.type.elements], [[item], [item]], [out, x])
        return
    x = lo.packed(node.inputs[0]) if keeps_order(node, axes) else lo.read(node.inputs[0])
    places = [x.order.index(a) for a in axes]
    info = lo.info(group, "passes", "", f"over axes {list(axes)}")
    emit_reduction_over(lo, r, x.ref, [shape[a] for a in x.order], places, out.ref, info)


def keeps_order(node: Node, axes: Sequence[int]) -> bool:
    """Is what is left of an operand with its channels innermost in the order of a row-major result?"""
    kept = [a for a in channels_last_order(node.inputs[0].type.rank) if a not in axes]
    return kept == sorted(kept)

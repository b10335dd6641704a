"""Elementwise groups: one expression over loops; those that all operands walk as one are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.dtypes import FLOAT32
from graphc.graph import Value
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.movement import emit_copy
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.lower.strides import collapse
from graphc.lower.verbs import Walk
from graphc.report import StepInfo


def lower_elementwise(lo: Lowering, group: Group) -> None:
    """A group without an anchor."""
    out = group.output
    if out.type.layout is None:
        target = lo.write(out)
        storages = [_dense_operand(lo, v, target) for v in group.operands]
        dims, walks = _dense_walks([target, *storages], out)
        dims, walks = [dims[i] for i in target.order], [_in_order(w, target.order) for w in walks]
        unit = 1
    else:
        unit = out.type.blocks.c
        operands = [_blocked_operand(lo, v, out) for v in group.operands]
        s = lo.write(out)
        dims = [out.shape[0], -(-out.shape[1] // unit), *out.shape[2:]]
        walks = [Walk(s.ref, out.dtype, list(s.strides), "v"), *operands]
    if out.type.elements == 0:
        return
    dims, strides = collapse(dims, [w.strides for w in walks])
    if unit > 1 and any(st[-1] not in (0, unit * w.dtype.itemsize) for w, st in zip(walks, strides)):
        # rows of one pixel, with a halo somewhere: the innermost loop that is left has gaps
        dims, strides = [*dims, 1], [[*st, 0] for st in strides]
    _emit(lo, group, dims, [replace(w, strides=st) for w, st in zip(walks, strides)], unit)


def _dense_operand(lo: Lowering, v: Value, target: Storage) -> Storage:
    """In the order of the result, unless strides do not matter."""
    if lo.any_strides:
        return lo.strided(v)
    return lo.read(v, target.channels_last and v.shape == target.type.shape)


def _dense_walks(storages: Sequence[Storage], out: Value) -> tuple[list[int], list[Walk]]:
    """Loops over the dims of a dense result; an operand that is broadcast along a dim has stride 0."""
    walks = []
    for s in storages:
        strides = [0 if d == 1 else st for d, st in zip(s.type.extents, s.strides)]
        walks.append(Walk(s.ref, s.type.dtype, [0] * (out.type.rank - len(strides)) + strides, "v"))
    return list(out.shape), walks


def _in_order(w: Walk, order: Sequence[int]) -> Walk:
    return replace(w, strides=[w.strides[i] for i in order])


def row_major(lo: Lowering, s: Storage) -> Storage:
    """A strided view as row-major memory: rows are read in whole vectors."""
    if s.contiguous:
        return s
    buffer = Buffer("contiguous", s.type.nbytes)
    emit_copy(lo, s, Ref(buffer), "a strided view")
    return Storage(Ref(buffer), s.type, dense_strides(s.type))


def _blocked_operand(lo: Lowering, v: Value, out: Value) -> Walk:
    """An operand against a blocked result, walked as [n, channel block, *spatial] in vectors of c channels."""
    rank, c = out.type.rank, out.type.blocks.c
    if v.type.layout is not None:
        s = lo.read(v)
        strides = [0 if d == 1 and axis != 1 else st for axis, (d, st) in enumerate(zip(v.shape, s.strides))]
        return Walk(s.ref, v.dtype, strides, "v")
    if v.data.size == 1:
        return Walk(lo.read(v).ref, v.dtype, [0] * rank, "s")
    vector = channel_vector(lo, v.data, out.shape[1], c)  # whole blocks: lanes behind the last channel are zero
    return Walk(Ref(vector), v.dtype, [0, c * FLOAT32.item, *[0] * (rank - 2)], "v")


def emit_map(
    lo: Lowering,
    group: Group,
    dims: list[int],
    strides: list[list[int]],
    storages: Sequence[Storage],
    info: StepInfo | None = None,
) -> None:
    """The step of a group's expression over dense storages (the result's first), walked with the given byte strides.
    info: of the step, where it is not about the group as it is."""
    walks = [Walk(s.ref, s.type.dtype, st, "v") for s, st in zip(storages, strides)]
    _emit(lo, group, dims, walks, 1, info)


def _emit(
    lo: Lowering, group: Group, dims: list[int], walks: Sequence[Walk], unit: int, info: StepInfo | None = None
) -> None:
    expression = group.expression
    assert expression is not None
    info = info or lo.info(group, "map", "", str(expression))
    lo.map(expression, dims, walks, unit, group.output.name, info)

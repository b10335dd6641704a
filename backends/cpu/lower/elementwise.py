"""Elementwise groups: collapse the dims that all operands walk alike, one `map_row` kernel for the innermost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc.backends.cpu.blocks.rows import MAP_ROWS
from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.movement import emit_copy
from graphc.backends.cpu.lower.strides import collapse
from graphc.backends.cpu.lower.window import channel_vector
from graphc.backends.cpu.sizes import ROW_DIMS
from graphc.backends.cpu.storage import Buffer, Ref, Storage, dense_strides
from graphc.dtypes import FLOAT32
from graphc.fuse import Group
from graphc.graph import Value
from graphc.report import StepInfo

CHUNK = 4096  # elements of one call: small enough to share a row between threads, large enough to hide the call


@dataclass(frozen=True)
class Walk:
    """How one operand is walked: its address, dtype, byte strides of the loops, and what it is along the innermost one:
    'v' elements, 's' one element, 'c' one vector of channels again and again."""

    ref: Ref
    dtype: np.dtype
    strides: list[int]
    kind: str


def lower_elementwise(lo: Lowering, group: Group) -> None:
    """A group without an anchor."""
    out = group.output
    if out.type.layout is None:
        operands = [_contiguous(lo, lo.read(v)) for v in group.operands]
        target = lo.write(out)
        dims, walks = _dense_walks([target, *operands], out)
        unit = 1
    else:
        unit = out.type.layout.c
        operands = [_blocked_operand(lo, v, out) for v in group.operands]
        s = lo.write(out)
        dims = [out.shape[0], -(-out.shape[1] // unit), *out.shape[2:]]
        walks = [Walk(s.ref, out.dtype, list(s.strides), "v"), *operands]
    if out.type.size == 0:
        return
    dims, strides = collapse(dims, [w.strides for w in walks])
    if unit > 1 and any(st[-1] not in (0, unit * w.dtype.itemsize) for w, st in zip(walks, strides)):
        # rows of one pixel, with a halo somewhere: the innermost loop that is left has gaps
        dims, strides = [*dims, 1], [[*st, 0] for st in strides]
    _emit_map(lo, group, dims, [replace(w, strides=st) for w, st in zip(walks, strides)], unit)


def _dense_walks(storages: Sequence[Storage], out: Value) -> tuple[list[int], list[Walk]]:
    """Loops over the dims of a dense result; an operand that is broadcast along a dim has stride 0."""
    walks = []
    for s in storages:
        strides = [0 if d == 1 else st for d, st in zip(s.type.shape, s.strides)]
        walks.append(Walk(s.ref, s.type.dtype, [0] * (out.type.rank - len(strides)) + strides, "v"))
    return list(out.shape), walks


def _contiguous(lo: Lowering, s: Storage) -> Storage:
    """A strided view as row-major memory: rows are read in whole vectors."""
    if s.contiguous:
        return s
    buffer = Buffer("contiguous", s.type.nbytes)
    emit_copy(lo, s, Ref(buffer), "a strided view")
    return Storage(Ref(buffer), s.type, dense_strides(s.type))


def _blocked_operand(lo: Lowering, v: Value, out: Value) -> Walk:
    """An operand against a blocked result, walked as [n, channel block, *spatial] in vectors of c channels."""
    rank, c = out.type.rank, out.type.layout.c
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
    _emit_map(lo, group, dims, walks, 1, info)


def _emit_map(
    lo: Lowering, group: Group, dims: list[int], walks: list[Walk], unit: int, info: StepInfo | None = None
) -> None:
    """The step of `walks` (the result's first) over dims, whose innermost counts runs of `unit` elements."""
    expression = group.expression
    if len(dims) - 1 > ROW_DIMS:  # a step for each element of the outermost dim
        info = info or lo.info(group, "map", "", str(expression))
        part = replace(info, flops=info.flops // dims[0], nbytes=info.nbytes // dims[0])
        for i in range(dims[0]):
            inner = [replace(w, ref=w.ref + i * w.strides[0], strides=w.strides[1:]) for w in walks]
            _emit_map(lo, group, dims[1:], inner, unit, part)
        return
    kinds = ""
    records = []
    for w in walks:
        kind = "v" if w.strides[-1] or dims[-1] * unit == 1 else "s"
        if kind == "s" and unit > 1 and w.kind == "v":
            kind = "v" if dims[-1] == 1 else "c"
        kinds += kind
        along = w.dtype.itemsize if kind == "v" else 0
        strides = w.strides[:-1][::-1] + [0] * (ROW_DIMS - len(dims) + 1)
        records.append({"ref": w.ref, "along": along, "strides": strides})
    micro = Kernel("map_row", (expression, kinds[1:], tuple(w.dtype.name for w in walks[1:])))
    outer = dims[:-1][::-1] + [1] * (ROW_DIMS - len(dims) + 1)
    scratch, stride = lo.scratch(group.output.name, 8 * len(walks))
    args = MAP_ROWS(
        micro=micro, operands=len(walks), length=dims[-1] * unit, chunk=CHUNK, scratch=scratch, stride=stride, dims=outer,
        records=records,
    )  # fmt: skip
    lo.emit(Kernel("map_rows"), args, info or lo.info(group, "map", "", str(expression)))

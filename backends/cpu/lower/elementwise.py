"""Elementwise groups: collapse the dims that all operands walk alike, one `map_row` kernel for the innermost."""

from __future__ import annotations

from collections.abc import Sequence

from backends.cpu.lower.core import Lowering, Storage, dense_strides
from backends.cpu.program import Ref
from backends.cpu.toolchain import Kernel
from graphc.fuse import Group
from graphc.graph import Value

MAX_DIMS = 6
CHUNK = 4096  # elements of one call: small enough to share a row between threads, large enough to hide the call


def lower_elementwise(lo: Lowering, group: Group) -> None:
    """A group without an anchor."""
    out = group.output
    operands = [lo.read(v) for v in group.operands]
    target = lo.write(out)
    if out.type.size == 0:
        return
    dims, walks = walk([target, *operands], out)
    dims, walks = collapse(dims, walks)
    emit_map(lo, group, dims, walks, [target, *operands])


def walk(storages: Sequence[Storage], out: Value) -> tuple[list[int], list[list[int]]]:
    """Extents of the loops over `out`, outermost first, and each operand's byte strides along them.

    A blocked result is walked as [n, channel block, *spatial, c]; an operand that is broadcast has stride 0.
    """
    t = out.type
    if t.layout is None:
        dims = list(t.shape)
        return dims, [_broadcast_strides(s, t.rank) for s in storages]
    c = t.layout.c
    dims = [t.shape[0], -(-t.shape[1] // c), *t.shape[2:], c]
    return dims, [_blocked_walk(s, t.rank, c) for s in storages]


def _broadcast_strides(s: Storage, rank: int) -> list[int]:
    strides = [0 if d == 1 else st for d, st in zip(s.type.shape, s.strides)]
    return [0] * (rank - len(strides)) + strides


def _blocked_walk(s: Storage, rank: int, c: int) -> list[int]:
    item = s.type.dtype.itemsize
    if s.type.layout is not None:
        shape = s.type.shape
        strides = [0 if d == 1 and axis != 1 else st for axis, (d, st) in enumerate(zip(shape, s.strides))]
        return [*strides, item]
    # a dense operand against a blocked result: a scalar or one element a channel (padded to whole blocks by the caller)
    shape = (1,) * (rank - s.type.rank) + s.type.shape
    if shape[1] == 1:
        return [0] * (rank + 1)
    return [0, c * item, *[0] * (rank - 2), item]


def collapse(dims: list[int], walks: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Merge neighbouring loops that every operand walks as one, and drop loops of one iteration."""
    keep = [i for i, d in enumerate(dims) if d != 1]
    dims, walks = [dims[i] for i in keep], [[w[i] for i in keep] for w in walks]
    i = len(dims) - 2
    while i >= 0:
        if all(w[i] == w[i + 1] * dims[i + 1] for w in walks):
            dims[i] *= dims[i + 1]
            del dims[i + 1]
            for w in walks:
                w[i] = w[i + 1]
                del w[i + 1]
        i -= 1
    return (dims, walks) if dims else ([1], [[0] for _ in walks])


def emit_map(lo: Lowering, group: Group, dims: list[int], walks: list[list[int]], storages: Sequence[Storage]) -> None:
    expression = group.expression
    kinds = ""
    for s, w in zip(storages[1:], walks[1:]):
        item = s.type.dtype.itemsize
        if w[-1] not in (0, item) and dims[-1] != 1:
            raise AssertionError(f"operand of {group} has inner stride {w[-1]}")
        kinds += "s" if w[-1] == 0 else "v"
    micro = Kernel("map_row", (expression, kinds, tuple(s.type.dtype.name for s in storages[1:])))
    while len(dims) - 1 > MAX_DIMS:
        raise AssertionError(f"{group} needs more than {MAX_DIMS} loops")
    outer = dims[:-1][::-1] + [1] * (MAX_DIMS - len(dims) + 1)
    records: list[int | Ref] = []
    for s, w in zip(storages, walks):
        records += [s.ref, w[-1], *w[:-1][::-1], *[0] * (MAX_DIMS - len(w) + 1)]
    scratch, stride = lo.scratch(group.output.name, 256)
    assert stride == 256
    args = [micro, len(storages), dims[-1], CHUNK, scratch, *outer, *records]
    lo.emit(Kernel("map_rows"), args, lo.info(group, "map", "", str(expression)))


def is_dense(s: Storage) -> bool:
    return s.strides == dense_strides(s.type)

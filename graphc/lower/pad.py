"""Pad, CenterCropPad and nearest-neighbour Resize: every axis reads the elements that a table names, or a fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.graph import Node
from graphc.lower.constants import zero
from graphc.lower.fuse import Group
from graphc.lower.limits import TABLE_AXES, WIDEST
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers, moved_dtypes
from graphc.lower.storage import Ref, Storage
from graphc.lower.tables import table
from graphc.ops._positions import Reads, every, padded
from graphc.ops.movement import pad_amounts
from graphc.report import StepInfo
from graphc.sizes import is_size


def emit_tables(
    lo: Lowering, x: Storage, out: Storage, axes: Sequence[Reads | np.ndarray | None], fill: Ref, info: StepInfo
) -> None:
    """out[i, j, …] = x[axes[0][i], axes[1][j], …], or the fill where there is no such element. None: an axis as it is. Both
    are packed, in one order."""
    assert x.order == out.order, (x, out)
    item = x.type.dtype.itemsize
    # (extent, bytes per element, elements or None); neighbours that stay are one
    groups: list[tuple[int, int, Reads | np.ndarray | None]] = []
    for d, stride, reads in ((x.type.extents[i], x.strides[i], axes[i]) for i in x.order):
        if reads is None and groups and groups[-1][2] is None:
            groups[-1] = groups[-1][0] * d, stride, None
        else:
            groups.append((d, stride, reads))
    groups = [g for g in groups if is_size(g[0]) or g[0] != 1 or g[2] is not None] or [(1, item, None)]
    if len(groups) > TABLE_AXES:
        raise AssertionError(f"{info.output} is padded along {len(groups)} groups of axes")
    tables = [table(lo, every(d) if reads is None else reads, stride) for d, stride, reads in groups]
    lo.copy_by_table(x.ref, out.ref, fill, item, tables, info)


def _loops(node: Node, target: Any = None) -> str | None:
    if node.output.type.rank > TABLE_AXES:
        return f"rank above {TABLE_AXES}"
    if node.output.dtype.itemsize > WIDEST:
        return f"{node.output.dtype.name} is wider than {WIDEST} bytes"
    return moved_dtypes(node)


@lowers("Pad", supported=_loops, channels_last=lambda node: "packed")
def lower_pad(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    out = lo.write(node.output)
    x = lo.read(node.inputs[0], out.channels_last)
    t = x.type
    if node.output.type.elements == 0:
        return
    given = node.inputs[2] if len(node.inputs) > 2 else None
    fill = zero(lo, t.dtype) if given is None else lo.read(given).ref
    axes = [padded(d, *amounts, node.attrs["mode"]) for d, amounts in zip(t.extents, pad_amounts(node.call))]
    emit_tables(lo, x, out, axes, fill, lo.info(group, "copy_tables"))


@lowers("CenterCropPad", supported=_loops, channels_last=lambda node: "packed")
def lower_center_crop_pad(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    out = lo.write(node.output)
    x = lo.read(node.inputs[0], out.channels_last)
    if node.output.type.elements == 0:
        return
    axes = []
    for have, want in zip(x.type.extents, node.output.shape):
        first = abs(have - want) // 2  # the odd element is cropped, or added, at the end
        before = -first if want <= have else first
        axes.append(padded(have, before, want - have - before, "constant"))
    emit_tables(lo, x, out, axes, zero(lo, x.type.dtype), lo.info(group, "copy_tables"))

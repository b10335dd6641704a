"""Pad, CenterCropPad and nearest-neighbour Resize: every axis reads the positions that a table names, or a fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from graphc.graph import Node
from graphc.lower.constants import zero
from graphc.lower.fuse import Group
from graphc.lower.limits import TABLE_AXES
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers, native_dtypes
from graphc.lower.storage import Ref, Storage, dense_strides
from graphc.ops.movement import pad_amounts
from graphc.report import StepInfo

OUTSIDE = -1  # a position that is filled
PadMode = Literal["constant", "reflect", "edge", "wrap"]


def emit_tables(
    lo: Lowering, x: Storage, out: Ref, axes: Sequence[np.ndarray | None], fill: Ref, info: StepInfo
) -> None:
    """out[i, j, …] = x[axes[0][i], axes[1][j], …], or the fill where a position is OUTSIDE. None: an axis as it is."""
    item = x.type.dtype.itemsize
    # (extent, bytes per position, positions or None); neighbours that stay are one
    groups: list[tuple[int, int, np.ndarray | None]] = []
    for d, stride, positions in zip(x.type.extents, dense_strides(x.type), axes):
        if positions is None and groups and groups[-1][2] is None:
            groups[-1] = groups[-1][0] * d, stride, None
        else:
            groups.append((d if positions is None else len(positions), stride, positions))
    groups = [g for g in groups if g[0] != 1 or g[2] is not None] or [(1, item, None)]
    if len(groups) > TABLE_AXES:
        raise AssertionError(f"{info.output} is padded along {len(groups)} groups of axes")
    tables = []
    for extent, stride, positions in groups:
        positions = np.arange(extent) if positions is None else positions
        tables.append(np.where(positions == OUTSIDE, OUTSIDE, positions * stride).astype(np.int64))
    lo.copy_by_table(x.ref, out, fill, item, tables, info)


def _loops(node: Node, target: Any = None) -> str | None:
    if node.output.type.rank > TABLE_AXES:
        return f"rank above {TABLE_AXES}"
    return native_dtypes(node)


def padded_positions(size: int, before: int, after: int, mode: PadMode) -> np.ndarray | None:
    """Positions of one padded axis, as many as the result has. Negative amounts crop, also more than there is."""
    if not before and not after:
        return None
    if mode == "constant":
        at = np.arange(before + size + after) - before
        return np.where((at >= 0) & (at < size), at, OUTSIDE)
    inside = np.arange(max(-before, 0), size - max(-after, 0))
    return np.pad(inside, (max(before, 0), max(after, 0)), mode)


@lowers("Pad", supported=_loops)
def lower_pad(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    t = x.type
    if node.output.type.elements == 0:
        return
    given = node.inputs[2] if len(node.inputs) > 2 else None
    fill = zero(lo, t.dtype) if given is None else lo.read(given).ref
    axes = [padded_positions(d, *amounts, node.attrs["mode"]) for d, amounts in zip(t.extents, pad_amounts(node.call))]
    emit_tables(lo, x, out.ref, axes, fill, lo.info(group, "copy_tables"))


@lowers("CenterCropPad", supported=_loops)
def lower_center_crop_pad(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, out = lo.read(node.inputs[0]), lo.write(node.output)
    if node.output.type.elements == 0:
        return
    axes = []
    for have, want in zip(x.type.extents, node.output.shape):
        first = abs(have - want) // 2  # the odd element is cropped, or added, at the end
        before = -first if want <= have else first
        axes.append(padded_positions(have, before, want - have - before, "constant"))
    emit_tables(lo, x, out.ref, axes, zero(lo, x.type.dtype), lo.info(group, "copy_tables"))

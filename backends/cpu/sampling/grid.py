"""GridSample."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.sampling.grid_block import (
    GRID,
    GRID_TAPS,
    PADDINGS,
    POINTS,
    Grid,
    GridPoints,
    GridTaps,
)
from graphc.backends.cpu.sizes import CACHE_LINE, FLOAT_BYTES
from graphc.lower.checks import NotFinite

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.graph import Node
    from graphc.lower.fuse import Group

TAPS = 4


FLOATS = ("float32", "float64")
TAPS_OF = {"nearest": 1, "linear": 2, "cubic": 4}  # pixels along an axis
MOST_TAPS = 1 << 12  # pixels of a point


def _supported(node: Node, target: Any) -> str | None:
    for v in node.operands:
        if v.dtype.name not in FLOATS:
            return f"GridSample has no {v.dtype} kernel"
    if _combinations(node) > MOST_TAPS:
        return f"its points have {_combinations(node)} pixels, of {MOST_TAPS} at most"
    return None


def _combinations(node: Node) -> int:
    return TAPS_OF[node.attrs["mode"]] ** (node.inputs[0].type.rank - 2)


@RULES.lowers("GridSample", supported=_supported)
def lower_grid_sample(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    if node.output.type.elements == 0 or node.inputs[1].type.elements == 0:
        lo.write(node.output)
    elif node.attrs["mode"] == "cubic" or node.inputs[0].type.rank != 4 or node.inputs[0].dtype.name != "float32":
        _lower_taps(lo, group)
    else:
        _lower_images(lo, group)


def _lower_images(lo: CpuLowering, group: Group) -> None:
    """Images [n, channels, h, w]: the kernel of vectors."""
    node = group.nodes[0]
    x, positions, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    (n, channels, h, w), points, linear = x.type.extents, prod(out.type.extents[2:]), node.attrs["mode"] == "linear"
    offsets, weights = 8 * TAPS * POINTS, FLOAT_BYTES * TAPS * POINTS
    scratch, stride = lo.scratch(f"{node.output.name}/taps", offsets + weights + CACHE_LINE)
    args = GRID(
        x=x.ref, grid=positions.ref, y=out.ref, n=n, channels=channels, h=h, w=w, points=points, linear=linear,
        align=node.attrs["align_corners"], padding=PADDINGS[node.attrs["padding_mode"]],
        micro=GridPoints(TAPS if linear else 1), offsets=scratch, weights=scratch + offsets,
        zero=scratch + (offsets + weights), stride=stride,
        item=positions.type.dtype.itemsize,
    )  # fmt: skip
    info = replace(lo.info(group, "grid"), flops=2 * TAPS * (out.type.elements + n * points * TAPS))
    lo.emit(Grid(), args, info, check=_check(node), writes=[out.ref])


def _lower_taps(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, positions, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    (n, channels, *sizes), points = x.type.extents, prod(out.type.extents[2:])
    taps, combinations = TAPS_OF[node.attrs["mode"]], _combinations(node)
    scratch, stride = lo.scratch(f"{node.output.name}/taps", 16 * (len(sizes) * taps + combinations))
    args = GRID_TAPS(
        x=x.ref, grid=positions.ref, y=out.ref, n=n, channels=channels, points=points, rank=len(sizes), taps=taps,
        combinations=combinations, align=node.attrs["align_corners"], padding=PADDINGS[node.attrs["padding_mode"]],
        item=x.type.dtype.itemsize, grid_item=positions.type.dtype.itemsize, scratch=scratch, stride=stride,
        records=[{"size": d} for d in sizes],
    )  # fmt: skip
    info = replace(lo.info(group, "grid_taps"), flops=2 * combinations * out.type.elements)
    lo.emit(GridTaps(), args, info, check=_check(node), writes=[out.ref])


def _check(node: Node) -> NotFinite:
    return NotFinite(node.op.name, node.name, node.source, "grid")

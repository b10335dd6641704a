"""GridSample."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.sampling.grid_block import GRID, PADDINGS, POINTS, Grid, GridPoints
from graphc.backends.cpu.sizes import CACHE_LINE, FLOAT_BYTES
from graphc.lower.checks import NotFinite

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.graph import Node
    from graphc.lower.fuse import Group

TAPS = 4


def _supported(node: Node, target: Any) -> str | None:
    if node.attrs["mode"] == "cubic":
        return "mode 'cubic' has no kernel"
    if node.inputs[0].type.rank != 4:
        return "only images of two dims have a kernel"
    for v in node.operands:
        if v.dtype != np.float32:
            return f"GridSample has no {v.dtype} kernel"
    return None


@RULES.lowers("GridSample", supported=_supported)
def lower_grid_sample(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, positions, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    if positions.type.elements == 0:
        return
    (n, channels, h, w), points, linear = x.type.extents, prod(out.type.extents[2:]), node.attrs["mode"] == "linear"
    offsets, weights = 8 * TAPS * POINTS, FLOAT_BYTES * TAPS * POINTS
    scratch, stride = lo.scratch(f"{node.output.name}/taps", offsets + weights + CACHE_LINE)
    args = GRID(
        x=x.ref, grid=positions.ref, y=out.ref, n=n, channels=channels, h=h, w=w, points=points, linear=linear,
        align=node.attrs["align_corners"], padding=PADDINGS[node.attrs["padding_mode"]],
        micro=GridPoints(TAPS if linear else 1), offsets=scratch, weights=scratch + offsets,
        zero=scratch + (offsets + weights), stride=stride,
    )  # fmt: skip
    check = NotFinite(node.op.name, node.name, node.source, "grid")
    info = replace(lo.info(group, "grid"), flops=2 * TAPS * (out.type.elements + n * points * TAPS))
    lo.emit(Grid(), args, info, check=check, writes=[out.ref])

"""GridSample."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.sampling.grid_block import GRID, PADDINGS, TAPS, Grid
from graphc.dtypes import is_float
from graphc.graph import Node
from graphc.lower.checks import NotFinite
from graphc.lower.fuse import Group
from graphc.lower.registry import native_dtypes
from graphc.sizes import largest

EACH = 8  # channels of a thread, which share what is known of a point
MOST_DIMS = 3


def _supported(node: Node, target: Any = None) -> str | None:
    if node.inputs[0].type.rank > MOST_DIMS + 2:
        return f"images of more than {MOST_DIMS} dims have no kernel"
    for v in node.operands:
        if not is_float(v.dtype):
            return f"GridSample has no {v.dtype} kernel"
    return native_dtypes(node)


@lowers("GridSample", supported=_supported)
def lower_grid_sample(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    x, positions, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    if positions.type.elements == 0:
        return
    n, channels, *sizes = x.type.extents
    points, parts, pad = prod(out.type.extents[2:]), largest(1, -(-channels // EACH)), [0] * (MOST_DIMS - len(sizes))
    total, taps = n * parts * points, TAPS[node.attrs["mode"]] ** len(sizes)
    args = GRID(
        grid=-(-total // THREADS), total=total, x=x.ref, positions=positions.ref, y=out.ref, channels=channels,
        each=EACH, parts=parts, points=points, align=node.attrs["align_corners"],
        padding=PADDINGS[node.attrs["padding_mode"]], sizes=[*sizes[::-1], *pad], steps=[*x.strides[:1:-1], *pad],
        image=x.strides[0], plane=x.strides[1],
    )  # fmt: skip
    kernel = Grid(node.inputs[0].dtype.name, node.inputs[1].dtype.name, len(sizes), node.attrs["mode"])
    check = NotFinite(node.op.name, node.name, node.source, "grid")
    info = replace(lo.info(group, str(kernel)), flops=2 * taps * out.type.elements)
    lo.emit(kernel, args, info, check=check, writes=[out.ref])

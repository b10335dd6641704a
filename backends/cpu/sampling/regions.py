"""RoiAlign and MaxRoiPool."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.sampling.regions_block import PLANE, REGION_MAXIMA, REGIONS, RegionMaxima, RegionPlane, Regions
from graphc.backends.cpu.sizes import FLOAT_BYTES, lines
from graphc.lower.index import out_of_range, positions

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.graph import Node
    from graphc.lower.fuse import Group

TAPS = 8  # multiply-adds of a bin, roughly


def _supported(node: Node, target: Any) -> str | None:
    if node.attrs.get("mode", "avg") != "avg":
        return f"mode '{node.attrs['mode']}' has no kernel"
    for v in node.inputs[:2]:
        if v.dtype != np.float32:
            return f"{node.op.name} has no {v.dtype} kernel"
    return None


@RULES.lowers("RoiAlign", supported=_supported)
def lower_roi_align(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, boxes, batch = lo.read(node.inputs[0]), lo.read(node.inputs[1]), positions(lo, group, node.inputs[2])
    out = lo.write(node.output)
    (images, channels, h, w), (count, _, out_h, out_w) = x.type.extents, out.type.extents
    if out.type.elements == 0:
        return
    sizes = [
        8 * PLANE.size, FLOAT_BYTES * out_h * h, 16 * out_h, FLOAT_BYTES * out_w * w, 16 * out_w,
        FLOAT_BYTES * (w + lo.target.vl),
    ]  # fmt: skip
    *offsets, whole = accumulate(map(lines, sizes), initial=0)
    scratch, stride = lo.scratch(f"{node.output.name}/weights", whole)
    names = ("plane", "rows", "row_ends", "columns", "column_ends", "line")
    attrs = node.attrs
    args = REGIONS(
        x=x.ref, regions=boxes.ref, batch=batch.ref, wide=batch.type.dtype.itemsize == 8, y=out.ref, images=images, channels=channels, h=h, w=w, count=count,
        out_h=out_h, out_w=out_w, scale=int(np.float32(attrs["spatial_scale"]).view(np.uint32)),
        half=attrs["coordinate_transformation_mode"] == "half_pixel", ratio=attrs["sampling_ratio"], micro=RegionPlane(),
        stride=stride, **{name: scratch + at for name, at in zip(names, offsets)},
    )  # fmt: skip
    check = out_of_range(node, [count], [images], [0], "batch index", negative=False)
    info = replace(lo.info(group, "regions"), flops=2 * TAPS * out.type.elements)
    lo.emit(Regions(), args, info, check=check, writes=[out.ref])


@RULES.lowers("MaxRoiPool", supported=_supported)
def lower_max_roi_pool(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, boxes, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    (images, channels, h, w), (count, _, out_h, out_w) = x.type.extents, out.type.extents
    if out.type.elements == 0:
        return
    ends, stride = lo.scratch(f"{node.output.name}/ends", lines(16 * (out_h + out_w)))
    args = REGION_MAXIMA(
        x=x.ref, regions=boxes.ref, y=out.ref, images=images, channels=channels, h=h, w=w, count=count, out_h=out_h,
        out_w=out_w, scale=int(np.float32(node.attrs["spatial_scale"]).view(np.uint32)), ends=ends, stride=stride,
    )  # fmt: skip
    check = out_of_range(node, [count], [images], [0], "batch index", negative=False)
    lo.emit(RegionMaxima(), args, lo.info(group, "region_maxima"), check=check, writes=[out.ref])

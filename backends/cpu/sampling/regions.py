"""RoiAlign and MaxRoiPool."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.sampling.regions_block import (
    PLANE,
    REGION_MAXIMA,
    REGION_SAMPLES,
    REGIONS,
    RegionMaxima,
    RegionPlane,
    Regions,
    RegionSamples,
)
from graphc.backends.cpu.sizes import FLOAT_BYTES, lines
from graphc.lower.index import out_of_range, positions

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.graph import Node
    from graphc.lower.fuse import Group

TAPS = 8  # multiply-adds of a bin, roughly


def _float32(node: Node, target: Any) -> str | None:
    return _of_dtypes(node, ("float32",))


def _floats(node: Node, target: Any) -> str | None:
    return _of_dtypes(node, ("float32", "float64"))


def _of_dtypes(node: Node, names: tuple[str, ...]) -> str | None:
    for v in node.inputs[:2]:
        if v.dtype.name not in names:
            return f"{node.op.name} has no {v.dtype} kernel"
    return None


@RULES.lowers("RoiAlign", supported=_floats)
def lower_roi_align(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    if node.attrs["mode"] == "avg" and _float32(node, None) is None:
        _lower_means(lo, group)
    else:
        _lower_samples(lo, group)


def _lower_samples(lo: CpuLowering, group: Group) -> None:
    """One after the other: what is largest is no sum over rows and columns."""
    node, attrs = group.nodes[0], group.nodes[0].attrs
    x, boxes, batch = lo.read(node.inputs[0]), lo.read(node.inputs[1]), positions(lo, group, node.inputs[2])
    out = lo.write(node.output)
    (images, channels, h, w), (count, _, out_h, out_w) = x.type.extents, out.type.extents
    if out.type.elements == 0:
        return
    args = REGION_SAMPLES(
        x=x.ref, regions=boxes.ref, batch=batch.ref, wide=batch.type.dtype.itemsize == 8, y=out.ref, images=images,
        channels=channels, h=h, w=w, count=count, out_h=out_h, out_w=out_w,
        scale=int(np.float32(attrs["spatial_scale"]).view(np.uint32)),
        half=attrs["coordinate_transformation_mode"] == "half_pixel", ratio=attrs["sampling_ratio"],
        average=attrs["mode"] == "avg", item=x.type.dtype.itemsize, region_item=boxes.type.dtype.itemsize,
    )  # fmt: skip
    check = out_of_range(node, [count], [images], [0], "batch index", negative=False)
    info = replace(lo.info(group, "region_samples"), flops=2 * TAPS * out.type.elements)
    lo.emit(RegionSamples(), args, info, check=check, writes=[out.ref])


def _lower_means(lo: CpuLowering, group: Group) -> None:
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


@RULES.lowers("MaxRoiPool", supported=_float32)
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

"""RoiAlign and MaxRoiPool."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.sampling.regions_block import REGION_MAXIMA, REGIONS, RegionMaxima, Regions
from graphc.dtypes import is_float
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.index import out_of_range, positions
from graphc.lower.registry import native_dtypes

TAPS = 8  # multiply-adds of a bin, roughly


def _supported(node: Node, target: Any = None) -> str | None:
    for v in node.inputs[:2]:
        if not is_float(v.dtype):
            return f"{node.op.name} has no {v.dtype} kernel"
    return native_dtypes(node)


@lowers("RoiAlign", supported=_supported)
def lower_roi_align(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    x, boxes, batch = lo.read(node.inputs[0]), lo.read(node.inputs[1]), positions(lo, group, node.inputs[2])
    out, attrs = lo.write(node.output), node.attrs
    (images, channels, h, w), (count, _, out_h, out_w) = x.type.extents, out.type.extents
    total = out.type.elements
    if total == 0:
        return
    args = REGIONS(
        grid=-(-total // THREADS), total=total, indices=batch.ref, wide=batch.type.dtype.itemsize == 8, x=x.ref,
        boxes=boxes.ref, y=out.ref, images=images, channels=channels, h=h, w=w, out_h=out_h, out_w=out_w,
        scale=int(np.float64(attrs["spatial_scale"]).view(np.int64)),
        half=attrs["coordinate_transformation_mode"] == "half_pixel", ratio=attrs["sampling_ratio"],
        image=x.strides[0], plane=x.strides[1], row=x.strides[2],
    )  # fmt: skip
    kernel = Regions(node.inputs[0].dtype.name, node.inputs[1].dtype.name, attrs["mode"] == "max")
    check = out_of_range(node, [count], [images], [0], "batch index", negative=False)
    info = replace(lo.info(group, str(kernel)), flops=2 * TAPS * total)
    lo.emit(kernel, args, info, check=check, writes=[out.ref])


@lowers("MaxRoiPool", supported=_supported)
def lower_max_roi_pool(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    x, boxes, out = lo.read(node.inputs[0]), lo.read(node.inputs[1]), lo.write(node.output)
    (images, channels, h, w), (count, _, out_h, out_w) = x.type.extents, out.type.extents
    total = out.type.elements
    if total == 0:
        return
    args = REGION_MAXIMA(
        grid=-(-total // THREADS), total=total, x=x.ref, regions=boxes.ref, y=out.ref, images=images, channels=channels,
        h=h, w=w, out_h=out_h, out_w=out_w, scale=int(np.float64(node.attrs["spatial_scale"]).view(np.int64)),
        image=x.strides[0], plane=x.strides[1], row=x.strides[2],
    )  # fmt: skip
    kernel = RegionMaxima(x.type.dtype.name)
    check = out_of_range(node, [count], [images], [0], "batch index", negative=False)
    lo.emit(kernel, args, lo.info(group, str(kernel)), check=check, writes=[out.ref])

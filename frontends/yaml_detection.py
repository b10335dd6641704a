"""The layers of detectors: anchors, boxes from offsets, suppression, pools over regions.

A box is x1, y1, x2, y2 (form: corners) or x, y, width, height of its centre (form: centers).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from graphc.dtypes import is_float
from graphc.frontends.yaml_expr import same_dim
from graphc.frontends.yaml_layers import Ints, window
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value

Form = Literal["corners", "centers"]


@layer
def anchors(
    c: LayerBuilder,
    x: Value,
    *,
    sizes: tuple[float, ...],
    ratios: tuple[float, ...] = (1.0,),
    extra: tuple[float, ...] = (),
    stride: int | None = None,
    offset: float = 0.5,
    form: Form = "corners",
) -> Value:
    """Boxes around every place of a feature map, a constant [places·anchors, 4]; row by row, at each place for every ratio
    (height/width) every size (the root of the area), then squares of the sizes in `extra`.

    stride: pixels between places, and sizes are pixels (Faster R-CNN, arXiv:1506.01497); without it both are parts of the
    image (SSD, arXiv:1512.02325). offset: where in a place its centre lies."""
    c.rank(x, 4)
    height, width = (c.fixed(x, a, "the size of the map") for a in (2, 3))
    if not is_float(x.dtype):
        raise c.fail(f"takes a map of floats, not {x.type}", "cast: float32")
    if not all(0 < v < np.inf for v in (*sizes, *ratios, *extra)):
        raise c.fail("sizes and ratios must be above 0")
    root = np.sqrt(np.array(ratios))[:, None]
    wide = np.concatenate([(np.array(sizes) / root).reshape(-1), extra])
    high = np.concatenate([(np.array(sizes) * root).reshape(-1), extra])
    unit = (1 / max(height, 1), 1 / max(width, 1)) if stride is None else (stride, stride)
    rows, columns = ((np.arange(n) + offset) * u for n, u in zip((height, width), unit))
    y, x_ = np.meshgrid(rows, columns, indexing="ij")
    boxes = np.empty((height, width, len(wide), 4))
    boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3] = x_[..., None], y[..., None], wide, high
    if form == "corners":
        half = boxes[..., 2:] / 2
        boxes = np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)
    return c.const(boxes.reshape(-1, 4), x.dtype)


@layer
def decode_boxes(
    c: LayerBuilder,
    offsets: Value,
    boxes: Value,
    *,
    form: Form = "corners",
    to: Form = "corners",
    variances: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
    limit: float | None = None,
) -> Value:
    """Boxes [batch, n, 4] from a network's offsets and anchors [n, 4] (Girshick et al. 2013, arXiv:1311.2524, C): centre
    x + dx·width, size width·exp(dw).

    form: of the anchors; to: of the result. variances: factors of the offsets (SSD's 0.1, 0.1, 0.2, 0.2). limit: the largest dw
    and dh (torchvision's is log(1000/16), 4.135)."""
    for v, what in ((offsets, "offsets"), (boxes, "anchors")):
        c.rank(v, 2, 3, hint=f"the {what} are [n, 4] or [batch, n, 4]")
        if v.shape[-1] != 4:
            raise c.fail(f"the {what} must be four numbers for each box, not {v.type}")
    if len(variances) != 4 or min(variances) <= 0:
        raise c.fail(f"variances must be four numbers above 0, not {list(variances)}")
    at, size = c.add("Split", boxes, outputs=2, axis=-1, num_outputs=2)
    if form == "corners":
        size = c.add("Sub", size, at)
        at = c.add("Add", at, c.add("Mul", size, c.const(0.5, size.dtype)))
    if set(variances) != {1.0}:
        offsets = c.add("Mul", offsets, c.const(np.array(variances), offsets.dtype))
    moved, grown = c.add("Split", offsets, outputs=2, axis=-1, num_outputs=2)
    if limit is not None:
        grown = c.add("Min", grown, c.const(limit, grown.dtype))
    at = c.add("Add", at, c.add("Mul", moved, size))
    size = c.add("Mul", c.add("Exp", grown), size)
    if to == "centers":
        return c.add("Concat", at, size, axis=-1)
    half = c.add("Mul", size, c.const(0.5, size.dtype))
    return c.add("Concat", c.add("Sub", at, half), c.add("Add", at, half), axis=-1)


@layer
def nms(
    c: LayerBuilder,
    *xs: Value,
    keep: int = 100,
    iou: float = 0.5,
    score: float | None = None,
    form: Form = "corners",
) -> tuple[Value, Value, Value]:
    """Suppress boxes that overlap better ones: `from: [boxes, scores]`, [batch, n, 4] (or [n, 4], the same ones in every image)
    and [batch, classes, n]. With int64 groups [batch, n] or [n], `from: [boxes, scores, groups]`, only boxes of one group suppress
    each other (and must be finite): with one class, and groups for what each box shows, `keep` is of all classes together.

    Gives what is left, best first in each class of each image: image, class and box number [left, 3], the boxes [left, 4] and
    their scores [left]; how many are left is known when the model runs. keep: in one class of one image; iou: overlap from which
    a box is suppressed; score: boxes must have more."""
    c.operands(xs, 2, 3, hint="name them: from: [boxes, scores], or [boxes, scores, groups]")
    boxes, scores, *groups = xs
    c.rank(boxes, 2, 3, hint="boxes are [batch, n, 4] or [n, 4]")
    c.rank(scores, 3, hint="scores are [batch, classes, n]")
    if boxes.shape[-1] != 4 or boxes.shape[-2] != scores.shape[2]:
        hint = "put the boxes last: {transpose: [0, 2, 1]}" if boxes.shape[-2] == scores.shape[1] else None
        raise c.fail(
            f"takes boxes [batch, n, 4] and scores [batch, classes, n], not {boxes.type} and {scores.type}", hint
        )
    if keep < 1 or not 0 <= iou <= 1:
        raise c.fail(f"keep must be at least 1 and iou from 0 to 1, not {keep} and {iou}")
    if len(boxes.shape) == 2:
        each = c.add("Unsqueeze", c.add("Gather", scores, c.const(0), axis=1), c.const([2]))  # [batch, n, 1]
        boxes = c.add("Where", c.add("IsNaN", each), boxes, boxes)  # the same boxes whatever it is
    limits = [c.const([keep]), c.const([iou], "float32")]
    if score is not None:
        limits.append(c.const([score], "float32"))
    apart = _apart(c, boxes, groups[0], form) if groups else boxes
    left = c.add("NonMaxSuppression", apart, scores, *limits, center_point_box=int(form == "centers"))
    places = c.add("Gather", left, c.const([0, 2]), axis=1)
    return left, c.add("GatherND", boxes, places), c.add("GatherND", scores, left)


def _apart(c: LayerBuilder, boxes: Value, group: Value, form: Form) -> Value:
    """The boxes of each group, moved to where no other group has any."""
    known = len(group.shape) in (1, 2) and group.dtype == np.int64
    if not known or not same_dim(group.shape[-1], boxes.shape[1]):
        raise c.fail(f"takes groups as int64[batch, n] or int64[n], not {group.type}")
    high, low = (c.add(op, boxes, keepdims=0) for op in ("ReduceMax", "ReduceMin"))
    reach = high if form == "corners" else c.add("Add", high, high)  # a centre, and half of a width on both sides
    span = c.add("Add", c.add("Sub", reach, low), c.const(1, boxes.dtype))
    shift = c.add("Mul", c.add("Cast", c.add("Unsqueeze", group, c.const([-1])), to=boxes.dtype), span)
    if form == "centers":
        shift = c.add("Mul", shift, c.const([1, 1, 0, 0], boxes.dtype))
    return c.add("Add", boxes, shift)


# --- pools over regions -----------------------------------------------------------------------------------------------
@layer
def roi_align(
    c: LayerBuilder,
    x: Value,
    *regions: Value,
    size: Ints,
    scale: float = 1.0,
    samples: int = 0,
    mode: Literal["avg", "max"] = "avg",
    aligned: bool = True,
) -> Value:
    """Regions of feature maps, each sampled to one size (He et al. 2017, arXiv:1703.06870): [regions, channels, …size].

    `from: [x, regions]`, corners behind the number of the image [n, 5], or of a single image [n, 4]; or `from: [x, boxes, images]`,
    [n, 4] and int64 [n].
    scale: of the map to the image of the boxes; samples: in each bin and direction (0: by its size); aligned: half pixels."""
    c.operands((x, *regions), 2, 3, hint="name them: from: [x, regions]")
    boxes, images = _regions(c, x, regions)
    if images is None:
        first, boxes = c.add("Split", boxes, c.const([1, 4]), outputs=2, axis=1)
        images = c.add("Cast", c.add("Squeeze", first, c.const([1])), to=np.dtype(np.int64))
    height, width = window(c, "size", size, 2)
    return c.add(
        "RoiAlign",
        x,
        boxes,
        images,
        output_height=height,
        output_width=width,
        sampling_ratio=samples,
        spatial_scale=scale,
        mode=mode,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )


@layer
def roi_pool(c: LayerBuilder, x: Value, *regions: Value, size: Ints, scale: float = 1.0) -> Value:
    """The maximum of every bin of regions (Girshick 2015, Fast R-CNN, arXiv:1504.08083): [regions, channels, …size].

    `from: [x, regions]`, corners behind the number of the image [n, 5], or of a single image [n, 4]; or `from: [x, boxes, images]`,
    [n, 4] and int64 [n].
    scale: of the map to the image of the boxes."""
    c.operands((x, *regions), 2, 3, hint="name them: from: [x, regions]")
    boxes, images = _regions(c, x, regions)
    if images is not None:
        numbers = c.add("Cast", c.add("Unsqueeze", images, c.const([1])), to=boxes.dtype)
        boxes = c.add("Concat", numbers, boxes, axis=1)
    return c.add("MaxRoiPool", x, boxes, pooled_shape=window(c, "size", size, 2), spatial_scale=scale)


def _regions(c: LayerBuilder, x: Value, regions: tuple[Value, ...]) -> tuple[Value, Value | None]:
    """Boxes [n, 4] and the images of theirs, or both in one [n, 5]."""
    c.rank(x, 4, hint="the first is [batch, channels, height, width]")
    columns = 5 if len(regions) == 1 else 4
    boxes, images = regions[0], regions[1] if len(regions) > 1 else None
    if columns == 5 and x.shape[0] == 1 and len(boxes.shape) == 2 and boxes.shape[1] == 4:
        return c.add("Pad", boxes, c.const([0, 1, 0, 0])), None
    if len(boxes.shape) != 2 or boxes.shape[1] != columns:
        hint = "give the numbers of their images too: from: [x, boxes, images]" if columns == 5 else None
        raise c.fail(f"takes regions [n, {columns}], not {boxes.type}", hint)
    if images is not None and (images.dtype != np.int64 or len(images.shape) != 1):
        raise c.fail(f"takes the numbers of the images as int64[n], not {images.type}")
    return boxes, images

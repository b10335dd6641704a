"""Operators of detectors and spatial transformers: box suppression, regions of interest, sampling on a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from graphc.dims import minimum
from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.memory_limit import require
from graphc.op import FLOATS, Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops.index import checked, dim_of_data, require_integers
from graphc.ops.movement import same_dim
from graphc.ops.precision import widen
from graphc.types import Dim, TensorType, may_be, prod


# --- NonMaxSuppression ------------------------------------------------------------------------------------------------
def _suppressed_type(call: Call) -> list[TensorType]:
    boxes, scores = call.type(0), call.type(1)
    if boxes.rank != 3 or scores.rank != 3:
        raise call.fail("takes boxes [batch, boxes, 4] and scores [batch, classes, boxes]")
    same_dim(call, 2, (boxes.shape[2], 4))
    same_dim(call, 0, (boxes.shape[0], scores.shape[0]))
    same_dim(call, 1, (boxes.shape[1], scores.shape[2]))
    given = [i for i in range(len(call.inputs)) if call.has(i)]
    for i in given[2:]:
        if not may_be(call.type(i).size, 1):
            raise call.fail(f"'{call.op.inputs[i].rstrip('?')}' must be one number, not {call.type(i)}")
    return [TensorType(np.int64, (dim_of_data(call, *given), 3))]


def most_selected(call: Call) -> Dim:
    """Boxes that NonMaxSuppression selects of one class of one batch entry, at most. 0 without a limit (ONNX's default)."""
    if not call.has(2):
        return 0
    boxes = call.shape(0)[1]
    return minimum(max(call.ints(2)[0], 0), boxes) if call.inputs[2].is_const else boxes


def corners(boxes: np.ndarray, center: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners [boxes, 2] of boxes [boxes, 4], given as two corners or as center and size."""
    a, b = boxes[:, :2], boxes[:, 2:]
    if center:
        return a - b / 2, a + b / 2
    return np.minimum(a, b), np.maximum(a, b)


def overlaps(low: np.ndarray, high: np.ndarray, i: int) -> np.ndarray:
    """Intersection over union of box i with every box; 0 where a box has no area."""
    extent = np.clip(np.minimum(high, high[i]) - np.maximum(low, low[i]), 0, None)
    common = extent.prod(1)
    areas = (high - low).prod(1)
    union = areas + areas[i] - common
    valid = (common > 0) & (areas > 0) & (areas[i] > 0) & (union > 0)
    return np.divide(common, union, out=np.zeros_like(common), where=valid)


def _non_max_suppression(boxes, scores, limit=None, iou=None, threshold=None, *, center_point_box):
    limit = 0 if limit is None else int(np.reshape(limit, ()))
    iou = 0.0 if iou is None else float(np.reshape(iou, ()))
    chosen = []
    for batch, label in itertools.product(range(scores.shape[0]), range(scores.shape[1])):
        low, high = corners(boxes[batch], center_point_box)
        score = scores[batch, label]
        order = np.argsort(-score, kind="stable")
        if threshold is not None:
            order = order[score[order] > np.reshape(threshold, ())]
        kept = 0
        while len(order) and kept < limit:
            best, order = order[0], order[1:]
            chosen.append((batch, label, best))
            kept += 1
            order = order[overlaps(low, high, best)[order] <= iou]
    return np.array(chosen, np.int64).reshape(-1, 3)


_BOXES = [[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [1, 11.1, 0, 10.1], [0, 100, 1, 101]]]
_CENTERS = [
    [[0.5, 0.5, 1, 1], [0.5, 0.6, 1, 1], [0.5, 0.4, 1, 1], [0.5, 10.5, 1, 1], [0.5, 10.6, 1, 1], [0.5, 99, 1, 1]]
]
_SCORES = [[[0.9, 0.75, 0.6, 0.95, 0.5, 0.3], [0.1, 0.75, 0.75, 0.2, 0.5, 0.3]]]


def _boxes_case(boxes, *scalars, **attrs) -> Case:
    inputs = (Const(boxes, "float32"), Const(_SCORES, "float32"))
    return Case((*inputs, *(Const([s], d) for s, d in zip(scalars, ("int64", "float32", "float32")))), attrs)


register(
    Op(
        "NonMaxSuppression",
        ("boxes", "scores", "max_output_boxes_per_class?", "iou_threshold?", "score_threshold?"),
        _suppressed_type,
        _non_max_suppression,
        {"center_point_box": Attr(bool, False)},
        bound=lambda call: prod((*call.shape(1)[:2], most_selected(call))),
        samples=Samples(
            ("float32",),
            cases=(
                _boxes_case(_BOXES, 3, 0.5, 0.0),
                _boxes_case(_BOXES, 2, 0.5, 0.4),
                _boxes_case(_CENTERS, 3, 0.5, 0.0, center_point_box=True),
                _boxes_case(_BOXES, 10, 1.0),
            ),
        ),
        family=Family.INDEX,
    )
)


# --- RoiAlign, MaxRoiPool ---------------------------------------------------------------------------------------------
_MOST_SAMPLES = 1 << 16  # along one side of a bin, where the file says how many
_SAMPLE_BYTES = 40  # of the reference, for each: position, neighbours, weights


def _regions(call: Call, columns: int) -> None:
    """Raises TypeRuleError unless operands are images and regions [count, columns]."""
    if call.rank(0) != 4 or call.rank(1) != 2 or not may_be(call.shape(1)[1], columns):
        raise call.fail(f"takes images [N, C, H, W] and regions [count, {columns}]")


def _roi_align_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    _regions(call, 4)
    if call.attrs.sampling_ratio > _MOST_SAMPLES:
        raise call.fail(f"{call.attrs.sampling_ratio} samples along a bin, at most {_MOST_SAMPLES} are taken")
    require_integers(call, 2)
    count = same_dim(call, 0, (call.shape(1)[0], call.shape(2)[0]))
    return [_of_pixels(call, x.with_shape((count, x.shape[1], call.attrs.output_height, call.attrs.output_width)))]


def _of_pixels(call: Call, result: TensorType) -> TensorType:
    """The type of what is sampled from images. Raises TypeRuleError where they have no pixels to sample."""
    if 0 in call.shape(0)[2:] and 0 not in result.shape:
        raise call.fail(f"the images {call.type(0)} have no pixels to sample")
    return result


def _bins(start: float, length: float, count: int, ratio: int) -> np.ndarray:
    """Sampling positions [count, samples] along one axis of a region: `ratio` per bin, or about one per pixel if 0."""
    size = length / count
    samples = ratio if ratio > 0 else math.ceil(size)
    require(_SAMPLE_BYTES * count * samples, "the samples of a region")
    return start + (np.arange(count)[:, None] + (np.arange(samples) + 0.5) / max(samples, 1)) * size


def _bilinear(p: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper neighbour of positions along an axis, and their weights; 0 beyond one pixel outside."""
    valid = (p >= -1) & (p <= size)
    p = np.clip(p, 0, size - 1)
    low = np.floor(p).astype(np.int64)
    return low, np.minimum(low + 1, size - 1), (1 - (p - low)) * valid, (p - low) * valid


def _roi_align(
    x, rois, batch, *, coordinate_transformation_mode, mode, output_height, output_width, sampling_ratio, spatial_scale
):
    batch = checked("RoiAlign", batch, len(x), 0, "batch index", negative=False)
    half = coordinate_transformation_mode == "half_pixel"
    images = widen(x)
    out = np.zeros((len(rois), x.shape[1], output_height, output_width), images.dtype)
    for r, (x1, y1, x2, y2) in enumerate(rois.astype(np.float64) * spatial_scale - (0.5 if half else 0)):
        width, height = (x2 - x1, y2 - y1) if half else (max(x2 - x1, 1), max(y2 - y1, 1))
        rows = _bins(y1, height, output_height, sampling_ratio)
        columns = _bins(x1, width, output_width, sampling_ratio)
        if not rows.size or not columns.size:
            continue
        top, bottom, *wy = (v[:, None, :, None] for v in _bilinear(rows, x.shape[2]))
        left, right, *wx = (v[None, :, None, :] for v in _bilinear(columns, x.shape[3]))
        corners4 = itertools.product(zip((top, bottom), wy), zip((left, right), wx))
        terms = [images[batch[r]][:, i, j] * (a * b).astype(images.dtype) for (i, a), (j, b) in corners4]
        # mode 'max' takes the largest weighted corner, not the largest interpolated sample (ONNX RoiAlign)
        out[r] = sum(terms).mean((-2, -1)) if mode == "avg" else np.maximum.reduce(terms).max((-2, -1))
    return out.astype(x.dtype)


register(
    Op(
        "RoiAlign",
        ("x", "rois", "batch_indices"),
        _roi_align_type,
        _roi_align,
        {
            "coordinate_transformation_mode": Attr(str, "half_pixel", ("half_pixel", "output_half_pixel")),
            "mode": Attr(str, "avg", ("avg", "max")),
            "output_height": Attr(int, 1, settled=True),
            "output_width": Attr(int, 1, settled=True),
            "sampling_ratio": Attr(int, 0),
            "spatial_scale": Attr(float, 1.0),
        },
        samples=Samples(
            FLOATS,
            cases=tuple(
                Case(
                    (
                        Tensor((2, 3, 8, 9)),
                        Const([[0, 0, 7, 7], [1, 2, 6.5, 5], [-3, -3, 12, 9]], "float32"),
                        Const([0, 1, 1]),
                    ),
                    {"output_height": 3, "output_width": 2, "spatial_scale": 0.9, **attrs},
                )
                for attrs in (
                    {"sampling_ratio": 2},
                    {"mode": "max"},
                    {"coordinate_transformation_mode": "output_half_pixel"},
                    {"coordinate_transformation_mode": "output_half_pixel", "mode": "max", "sampling_ratio": 1},
                )
            ),
        ),
        family=Family.INDEX,
    )
)


def _roi_pool_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    _regions(call, 5)
    if len(call.attrs.pooled_shape) != 2:
        raise call.fail("pooled_shape must be a height and a width")
    return [x.with_shape((call.shape(1)[0], x.shape[1], *call.attrs.pooled_shape))]


def _edges(low: float, high: float, bins: int, size: int) -> list[slice]:
    """The pixels of each bin of a region from `low` to `high`, both included, clipped to the image (Fast R-CNN)."""
    step = max(high - low + 1, 1) / bins
    starts = (int(np.clip(math.floor(i * step) + low, 0, size)) for i in range(bins))
    ends = (int(np.clip(math.ceil((i + 1) * step) + low, 0, size)) for i in range(bins))
    return [slice(a, b) for a, b in zip(starts, ends)]


def _max_roi_pool(x, rois, pooled_shape, spatial_scale):
    y = np.zeros((len(rois), x.shape[1], *pooled_shape), x.dtype)  # an empty bin gives 0
    if not y.size:
        return y
    batch = checked("MaxRoiPool", rois[:, 0], len(x), 0, "batch index", negative=False)
    scaled = rois[:, 1:].astype(np.float64) * spatial_scale
    whole = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled).astype(np.int64)  # halves away from zero, as C rounds
    for r, (x1, y1, x2, y2) in enumerate(whole.tolist()):
        rows, columns = _edges(y1, y2, pooled_shape[0], x.shape[2]), _edges(x1, x2, pooled_shape[1], x.shape[3])
        for (i, h), (j, w) in itertools.product(enumerate(rows), enumerate(columns)):
            part = x[batch[r], :, h, w]
            if part.size:
                y[r, :, i, j] = part.max((-2, -1))
    return y


register(
    Op(
        "MaxRoiPool",
        ("x", "rois"),
        _roi_pool_type,
        _max_roi_pool,
        {"pooled_shape": Attr("ints", settled=True), "spatial_scale": Attr(float, 1.0)},
        tolerance=0.0,
        samples=Samples(
            FLOATS,
            cases=(
                Case(
                    (Tensor((2, 2, 6, 7), dtype="float32"), Const([[0, 0, 0, 4, 5], [1, 2, 1, 3, 9]], "float32")),
                    {"pooled_shape": (2, 3)},
                ),
                Case(
                    (Tensor((1, 2, 6, 7), dtype="float32"), Const([[0, 0, 0, 10, 10]], "float32")),
                    {"pooled_shape": (3, 3), "spatial_scale": 0.5},
                ),
            ),
        ),
        family=Family.INDEX,
    )
)


# --- GridSample, AffineGrid -------------------------------------------------------------------------------------------
def _sampled(call: Call) -> list[TensorType]:
    x, grid = call.type(0), call.type(1)
    if x.rank < 3 or grid.rank != x.rank or not may_be(grid.shape[-1], x.rank - 2):
        raise call.fail("takes x [N, C, D1 … Dr] and a grid [N, O1 … Or, r]")
    if x.dtype.kind == "O":
        raise call.fail("takes numbers, not strings")
    batch = same_dim(call, 0, (x.shape[0], grid.shape[0]))
    return [_of_pixels(call, x.with_shape((batch, x.shape[1], *grid.shape[1:-1])))]


def _reflect(p: np.ndarray, low: float, high: float) -> np.ndarray:
    """Positions mirrored at both borders until they are within."""
    span = high - low
    if span <= 0:
        return np.zeros_like(p)
    offset = np.abs(p - low)
    turns, rest = np.floor(offset / span), np.mod(offset, span)
    return np.where(turns % 2 == 0, low + rest, high - rest)


def _cubic_weights(t: np.ndarray) -> list[np.ndarray]:
    """Weights of the four neighbours at distances 1+t, t, 1-t, 2-t (Keys, 1981, with a = -0.75)."""
    a = -0.75

    def near(d):
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d):
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(1 + t), near(t), near(1 - t), far(2 - t)]


def _axis_neighbours(
    p: np.ndarray, size: int, mode: str, padding: str, align: bool
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(index, weight, is it read?) of the pixels along one axis for positions p in [-1, 1]. What is outside and adds nothing is
    not read, as in PyTorch: infinity times a weight of 0 would be NaN."""
    p = (p + 1) / 2 * (size - 1) if align else ((p + 1) * size - 1) / 2
    p = np.clip(p, -1e30, 1e30)  # not infinite: the distance from a pixel would be NaN
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    if mode == "nearest":
        p = np.rint(p)
    if padding == "border" and mode != "cubic":  # whose taps are clamped one by one, as PyTorch and ONNX Runtime do
        p = np.clip(p, 0, size - 1)
    elif padding == "reflection":
        p = np.where((p < low) | (p > high), _reflect(p, low, high), p)
    base = np.floor(p)
    if mode == "nearest":
        first, weights = 0, [np.ones_like(p)]
        base = np.trunc(p)
    elif mode == "linear":
        first, weights = 0, [1 - (p - base), p - base]
    else:
        first, weights = -1, _cubic_weights(p - base)
    out = []
    for k, weight in enumerate(weights):
        index = base + (first + k)
        inside = (index >= 0) & (index < size)
        read = np.ones_like(inside)
        if padding == "zeros" or (padding == "border" and mode != "cubic"):
            read = inside
        elif padding == "reflection":
            index = np.where(inside, index, np.trunc(_reflect(index, low, high)))
        out.append((np.clip(index, 0, size - 1).astype(np.int64), weight, read))
    return out


def _grid_sample(x, grid, align_corners, mode, padding_mode):
    values = x.astype(np.float64) if x.dtype.kind in "iub" else widen(x)
    positions = widen(grid)
    if not np.isfinite(positions).all():
        raise InputError("the grid holds NaN or infinite positions", op="GridSample")
    if 0 in x.shape[:2]:
        return np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    r = x.ndim - 2
    axes = [
        _axis_neighbours(positions[..., r - 1 - d], x.shape[2 + d], mode, padding_mode, align_corners) for d in range(r)
    ]
    batch = np.arange(len(x)).reshape(-1, *[1] * r)
    y = np.zeros((), values.dtype)
    for picks in itertools.product(*axes):
        indices, weights, read = zip(*picks)
        weight = np.asarray(math.prod(weights)).astype(values.dtype)
        at = (batch, *indices)
        pixels = np.moveaxis(values, 1, -1)[at]  # [N, O1 … Or, C]
        y = y + np.where(np.logical_and.reduce(read)[..., None], pixels * weight[..., None], 0)
    return np.moveaxis(y, -1, 1).astype(x.dtype)


_PADDINGS = ("zeros", "border", "reflection")
register(
    Op(
        "GridSample",
        ("x", "grid"),
        _sampled,
        _grid_sample,
        {
            "align_corners": Attr(bool, False),
            "mode": Attr(str, "linear", ("linear", "nearest", "cubic")),
            "padding_mode": Attr(str, "zeros", _PADDINGS),
        },
        samples=Samples(
            FLOATS,
            cases=(
                *(
                    Case(
                        (Tensor((2, 2, 4, 5)), Tensor((2, 3, 2, 2), -1.4, 1.4)),
                        {"mode": mode, "padding_mode": padding, "align_corners": align},
                    )
                    for mode in ("linear", "nearest", "cubic")
                    for padding in _PADDINGS
                    for align in (False, True)
                ),
                Case((Tensor((1, 2, 3, 4, 2)), Tensor((1, 2, 2, 3, 3), -1.2, 1.2))),
            ),
        ),
        family=Family.INDEX,
    )
)


def _affine_type(call: Call) -> list[TensorType]:
    theta, size = call.type(0), call.ints(1)
    r = len(size) - 2
    if r not in (2, 3) or theta.rank != 3 or not all(map(may_be, theta.shape[1:], (r, r + 1))):
        raise call.fail(
            f"takes theta [N, 2, 3] with a size [N, C, H, W], or [N, 3, 4] with [N, C, D, H, W], not {size}"
        )
    return [theta.with_shape((same_dim(call, 0, (size[0], theta.shape[0])), *size[2:], r))]


def _affine_expand(b: Builder, call: Call) -> Value | None:
    """The positions of an untransformed grid, a column each, times theta; None where sizes are open."""
    theta, size = call.inputs[0], call.ints(1)[2:]
    if not all(isinstance(d, int) for d in size):
        return None
    wide = np.dtype(np.float64 if theta.dtype == np.float64 else np.float32)
    positions = _untransformed(size, call.attrs.align_corners).reshape(-1, len(size) + 1)
    grid = b.add(
        "MatMul", b.constant(positions, wide), b.add("Transpose", b.add("Cast", theta, to=wide), perm=(0, 2, 1))
    )
    shape = b.constant([0, *size, len(size)], np.int64)
    return b.add("Cast", b.add("Reshape", grid, shape), to=theta.dtype)


def _untransformed(dims: Sequence[int], align_corners: bool) -> np.ndarray:
    """[*dims, (x, y, z, 1)] of the elements' centers, the corners at -1 and 1."""
    steps = [(np.arange(d) * 2 / max(d - 1, 1) if align_corners else (2 * np.arange(d) + 1) / d) - 1 for d in dims]
    steps = [np.zeros(1) if align_corners and d == 1 else s for d, s in zip(dims, steps)]
    mesh = np.meshgrid(*steps, indexing="ij")
    return np.stack([*reversed(mesh), np.ones(dims)], -1)


def _affine_grid(theta, size, align_corners):
    homogeneous = _untransformed([int(d) for d in size[2:]], align_corners).astype(widen(theta).dtype)
    return np.einsum("nij,...j->n...i", widen(theta), homogeneous).astype(theta.dtype)


register(
    Op(
        "AffineGrid",
        ("theta", "size"),
        _affine_type,
        _affine_grid,
        {"align_corners": Attr(bool, False)},
        expand=_affine_expand,
        values=(1,),
        samples=Samples(
            FLOATS,
            cases=tuple(
                Case((Tensor((2, r, r + 1)), Const([2, 3, *size])), {"align_corners": align})
                for r, size in ((2, (4, 5)), (3, (2, 3, 4)))
                for align in (False, True)
            ),
        ),
        family=Family.CONTRACTION,
    )
)

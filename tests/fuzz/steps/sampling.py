"""Values between pixels, spectra, regions and boxes: forms of Resize and GridSample, transforms, what detectors end with."""

from __future__ import annotations

import math

import numpy as np

from ..draft import Draft, Reject, Tensor
from ..draws import F32, I64, is_float
from . import step
from .images import image


@step(2, opset=11)
def resize_forms(d: Draft) -> Tensor:
    """A region, axes, a policy for the aspect ratio, integers, weights outside left out."""
    x = d.pick(lambda t: t.dtype.name in ("float32", "float64", "uint8", "int8", "int32") and 1 < t.rank < 6 and t.size)
    if x.open:
        raise Reject("open")
    mode = d.draw.one_of("nearest", "nearest", "linear", "linear", "cubic")
    how = d.draw.one_of(None, "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_crop_and_resize")
    attrs = {"mode": mode, "coordinate_transformation_mode": how}
    axes = list(range(x.rank))[-d.draw.count(1, min(2, x.rank)) :]
    region = None
    if how == "tf_crop_and_resize":
        low, high = (d.draw.rng.choice(c, x.rank) for c in ((0.0, 0.25), (0.75, 1.0, 1.25)))
        low, high = (np.where(np.isin(np.arange(x.rank), axes), v, e) for v, e in ((low, 0.0), (high, 1.0)))
        region = d.const(np.concatenate([low, high]), F32)
        attrs["extrapolation_value"] = d.draw.one_of(None, 2.0)
    if mode != "nearest":
        attrs["exclude_outside"] = d.draw.one_of(None, 0, 1) if mode == "cubic" else None
    if d.opset >= 18 and region is None and d.draw.chance(0.6):
        attrs["axes"] = axes
        if d.draw.chance(0.5):
            attrs["keep_aspect_ratio_policy"] = d.draw.one_of("stretch", "not_larger", "not_smaller")
            sizes = [d.draw.count(1, 2 * x.shape[i] + 1) for i in axes]
            return d.node("Resize", x, None, None, d.ints(*sizes), **attrs)
        if mode != "nearest" and how != "align_corners":
            attrs["antialias"] = d.draw.one_of(None, 1)
        return d.node("Resize", x, None, d.const([d.draw.one_of(2.0, 0.5, 1.5) for _ in axes], F32), **attrs)
    if d.draw.chance(0.5):
        sizes = [d.draw.count(1, 2 * n + 1) if i in axes else n for i, n in enumerate(x.shape)]
        return d.node("Resize", x, region or d.const([], F32), d.const([], F32), d.ints(*sizes), **attrs)
    scales = [d.draw.one_of(2.0, 0.5, 1.5, 0.6) if i in axes else 1.0 for i in range(x.rank)]
    return d.node("Resize", x, region or d.const([], F32), d.const(scales, F32), **attrs)


@step(1)
def upsample(d: Draft) -> Tensor:
    """Before opset 10 an Upsample, with it a Resize of two operands."""
    x = image(d, (4,))
    if d.opset > 10:
        raise Reject("older")
    scales = d.const([1, 1, d.draw.one_of(1, 2, 3), d.draw.one_of(1, 2)], F32)
    return d.node("Resize", x, None, scales, mode=d.draw.one_of("nearest", "linear"))


@step(1.5, opset=16)
def grid_forms(d: Draft) -> Tensor:
    """In the plane and in space, under the names of each opset; points outside too."""
    x = image(d, (4, 4, 5))
    space = x.shape[2:]
    if x.open or math.prod(space) > 400 or (x.rank == 5 and d.opset < 20):
        raise Reject("open")
    new = d.opset >= 20
    modes = (("linear", "nearest", "cubic") if x.rank == 4 else ("linear", "nearest")) if new else (
        "bilinear", "nearest", "bicubic"
    )  # fmt: skip
    reach = d.draw.one_of(0.9, 1.2, 3.0)
    shape = (x.shape[0], *(d.draw.count(1, 4) for _ in space), len(space))
    grid = d.input_of(
        [d.draw.array(x.dtype, shape, -reach, reach, d.draw.one_of("uniform", "uniform", "grid"))] * d.shared.worlds,
        shape,
    )
    return d.node(
        "GridSample", x, grid, mode=d.draw.one_of(None, *modes), align_corners=d.draw.one_of(None, 0, 1),
        padding_mode=d.draw.one_of(None, "zeros", "border", "reflection"),
    )  # fmt: skip


@step(1, opset=14)
def affine_grid(d: Draft) -> Tensor:
    """A grid of turned and scaled places, and often what lies there."""
    if d.opset < 20:
        raise Reject("newer")
    n, h, w = d.draw.count(1, 2), d.draw.count(2, 6), d.draw.count(2, 6)
    theta = d.input(F32, (n, 2, 3), -1, 1, "uniform")
    grid = d.node("AffineGrid", theta, d.ints(n, 1, h, w), align_corners=d.draw.one_of(None, 0, 1))
    fits = [t for t in d.values if t.dtype == F32 and t.rank == 4 and t.shape[0] == n and not t.open and t.size]
    return d.node("GridSample", d.draw.one_of(*fits), grid) if fits else grid


def boxes(d: Draft, count: int, height: float, width: float) -> np.ndarray:
    """[count, 4]: two corners each."""
    corners = [np.sort(d.draw.rng.uniform(0, most, (count, 2)), 1) for most in (width, height)]
    return np.stack([corners[0][:, 0], corners[1][:, 0], corners[0][:, 1], corners[1][:, 1]], 1)


@step(1.5, opset=10)
def regions(d: Draft) -> Tensor:
    """RoiAlign in each form, and MaxRoiPool."""
    x = image(d, (4,))
    if x.open or x.size > 2500 // max(1, x.shape[0]):
        raise Reject("open")
    count, (n, _, h, w) = d.draw.count(1, 3), x.shape
    scale = d.draw.one_of(1.0, 0.5)
    corners = boxes(d, count, h / scale, w / scale)
    size = (d.draw.count(1, 3), d.draw.count(1, 3))
    batch = d.draw.array(I64, (count,), 0, n - 1)
    if d.draw.chance(0.3):
        rois = d.const(np.concatenate([batch[:, None], np.round(corners)], 1), x.dtype)
        return d.node("MaxRoiPool", x, rois, pooled_shape=size, spatial_scale=scale)
    mode = d.draw.one_of(None, "avg", "max")
    how = d.draw.one_of(None, "half_pixel", "output_half_pixel") if d.opset >= 16 else None
    rois = d.input_of([corners.astype(x.dtype)] * d.shared.worlds, corners.shape)
    return d.node(
        "RoiAlign", x, rois, d.const(batch), mode=mode, output_height=size[0], output_width=size[1],
        sampling_ratio=d.draw.one_of(None, 1, 2), spatial_scale=scale, coordinate_transformation_mode=how,
    )  # fmt: skip


@step(1.5, opset=10)
def suppression(d: Draft) -> Tensor:
    """NonMaxSuppression: corners or centres, limits given or not; then the rows that it names."""
    batch, classes, count = d.draw.count(1, 2), d.draw.count(1, 3), d.draw.count(1, 12)
    corners = np.stack([boxes(d, count, 1, 1) for _ in range(batch)]).astype(F32)
    centre = d.draw.chance(0.3)
    if centre:
        low, high = corners[..., :2], corners[..., 2:]
        corners = np.concatenate([(low + high) / 2, high - low], -1)
    elif d.draw.chance(0.3):
        corners = corners[..., [2, 3, 0, 1]]  # any two opposite corners
    given = d.input_of([corners] * d.shared.worlds, corners.shape)
    scores = d.input(F32, (batch, classes, count), 0, 1, "uniform")
    limits = [
        d.const([d.draw.one_of(0, 1, 3, 100)], I64) if d.draw.chance(0.85) else None,
        d.const([d.draw.one_of(0.0, 0.3, 0.5)], F32) if d.draw.chance(0.6) else None,
        d.const([d.draw.one_of(0.0, 0.2, 0.6)], F32) if d.draw.chance(0.6) else None,
    ]
    chosen = d.node("NonMaxSuppression", given, scores, *limits, center_point_box=1 if centre else None)
    if d.opset < 13 or d.draw.chance(0.4):
        return chosen
    which = d.node("Slice", chosen, d.ints(2), d.ints(3), d.ints(1))
    return d.node("Gather", given, d.node("Squeeze", which, d.ints(1)), axis=1)


@step(1.2)
def einsum_forms(d: Draft) -> Tensor:
    """Three operands, an ellipsis, diagonals, repeated indices, spaces, no arrow."""
    i, j, k = (d.draw.size(7) for _ in range(3))
    dtype = d.draw.one_of("float32", "float32", "float64", "int32", "int64", "float16")
    form, shapes = d.draw.one_of(
        ("ij,jk,kl->il", ((i, j), (j, k), (k, 3))), ("...ij,...jk->...ik", ((2, i, j), (2, j, k))),
        ("...ij,jk->...ik", ((3, i, j), (j, k))), ("ii->i", ((i, i),)), ("ii", ((i, i),)), ("ij -> ji", ((i, j),)),
        ("ii,i->i", ((i, i), (i,))), ("bhqd,bhkd->bhqk", ((1, 2, i, 4), (1, 2, j, 4))), ("i,j->ij", ((i,), (j,))),
        ("ijk->", ((i, j, k),)), ("ij,ij,ij->j", ((i, j),) * 3), ("b i d , b j d -> b i j", ((2, i, 3), (2, j, 3))),
        ("...->...", ((i, j),)), ("...i->...", ((i, j),)), (",ij->ij", ((), (i, j))), ("bij,bj->bi", ((2, i, j), (2, j))),
        ("abc,cd,ad->b", ((i, j, k), (k, 2), (i, 2))),
    )  # fmt: skip
    return d.node("Einsum", *(d.operand(dtype, s, -1, 1) for s in shapes), equation=form)


@step(1.5, opset=17)
def fourier(d: Draft) -> Tensor:
    """Real and complex, forwards and back, one side, any axis and length."""
    shape = (d.draw.count(1, 2), d.draw.one_of(1, 2, 4, 5, 8, 12, 16, 17), d.draw.one_of(1, 3, 4))
    complex_ = d.draw.chance(0.4)
    x = d.input(d.draw.one_of("float32", "float32", "float64"), (*shape, 2 if complex_ else 1), -1, 1)
    axis = d.draw.one_of(1, 1, 2, 0, -2, -3)
    length = d.const(d.draw.one_of(2, 4, 7, 9), I64) if d.draw.chance(0.3) else None
    onesided = 1 if not complex_ and d.draw.chance(0.4) else None
    inverse = d.draw.one_of(None, None, 0, 1) if not onesided else None
    if d.opset >= 20:
        return d.node("DFT", x, length, d.const(axis, I64), onesided=onesided, inverse=inverse)
    return d.node("DFT", x, length, axis=axis, onesided=onesided, inverse=inverse)


@step(0.8, opset=17)
def short_time(d: Draft) -> Tensor:
    n = d.draw.one_of(16, 20, 33)
    x = d.input(F32, (d.draw.count(1, 2), n, 1), -1, 1)
    size = d.draw.one_of(4, 8, 5)
    window = d.node(d.draw.one_of("HannWindow", "HammingWindow", "BlackmanWindow"), d.const(size, I64))
    length = d.const(size, I64) if d.draw.chance(0.7) else None
    return d.node("STFT", x, d.const(d.draw.count(1, 4), I64), window, length, onesided=d.draw.one_of(None, 0, 1))


@step(0.8, opset=18)
def columns(d: Draft) -> Tensor:
    """Blocks that overlap, added into an image."""
    height, width = d.draw.count(3, 6), d.draw.count(3, 6)
    kernel = [d.draw.count(1, 3) for _ in range(2)]
    strides, pads = [d.draw.count(1, 2) for _ in range(2)], [d.draw.count(0, 1) for _ in range(4)]
    places = [
        (n + pads[i] + pads[i + 2] - k) // s + 1 for i, (n, k, s) in enumerate(zip((height, width), kernel, strides))
    ]
    x = d.input(d.draw.one_of("float32", "float64"), (2, 3 * math.prod(kernel), math.prod(places)), -1, 1)
    return d.node("Col2Im", x, d.ints(height, width), d.ints(*kernel), strides=strides, pads=pads)


@step(0.8, opset=19)
def deformed(d: Draft) -> Tensor:
    """A convolution that reads where offsets say; masked or not."""
    x = image(d, (4,))
    n, c, h, w = x.shape
    if x.open or h < 3 or w < 3 or h * w > 150:
        raise Reject("open")
    groups = d.draw.one_of(*(g for g in (1, 2) if c % g == 0))
    places = (h - 1, w - 1)
    weights = d.weights(2, c, 2, 2, dtype=x.dtype, low=-0.5, high=0.5)
    offsets = d.weights(n, 8 * groups, *places, dtype=x.dtype, style="uniform")
    mask = d.weights(n, 4 * groups, *places, dtype=x.dtype, low=0) if d.draw.chance(0.5) else None
    bias = d.weights(2, dtype=x.dtype) if d.draw.chance(0.5) else None
    return d.node("DeformConv", x, weights, offsets, bias, mask, offset_group=groups)


@step(0.8, opset=11)
def unique(d: Draft) -> object:
    """Of repeated numbers; in order of size or of place, along an axis or of all."""
    x = d.input(
        d.draw.one_of("float32", "int64", "int8", "float64"), d.draw.shape(d.draw.count(1, 3), 60), -2, 2, "whole"
    )
    return d.node(
        "Unique", x, axis=d.draw.one_of(None, d.axis(x)), sorted=d.draw.one_of(None, 0, 1),
        outputs=[True, *(d.draw.chance(0.6) for _ in range(3))],
    )  # fmt: skip


@step(0.5, opset=11)
def determinant(d: Draft) -> Tensor:
    n = d.draw.count(1, 5)
    x = d.input(d.draw.one_of("float32", "float64"), (*d.draw.shape(d.draw.count(0, 2), 6), n, n), -2, 2)
    return d.node("Det", x)


@step(0.6, opset=26)
def products_so_far(d: Draft) -> Tensor:
    x = d.pick(lambda t: is_float(t.dtype) and t.rank > 0 and t.size > 0)
    return d.node(
        "CumProd", x, d.const(d.axis(x), I64), exclusive=d.draw.one_of(None, 1), reverse=d.draw.one_of(None, 1)
    )

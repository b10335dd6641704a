"""Operators between images and their blocks: depth to space and back, columns to an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphc.op import FLOATS, Attr, Call, Case, Const, Tensor
from graphc.ops.movement import move
from graphc.types import Dim, TensorType


def _image(call: Call) -> TensorType:
    x = call.type(0)
    if x.rank != 4 or call.attrs.blocksize < 1:
        raise call.fail("takes images [N, C, H, W] and a positive blocksize")
    return x


def _exact(call: Call, dim: Dim, by: int, what: str) -> Dim:
    if isinstance(dim, int) and dim % by:
        raise call.fail(f"{what} {dim} does not divide by {by}")
    return dim // by


def _depth_to_space_type(call: Call) -> list[TensorType]:
    x, b = _image(call), call.attrs.blocksize
    n, c, h, w = x.shape
    return [x.with_shape((n, _exact(call, c, b * b, "channels"), h * b, w * b))]


def _depth_to_space(x, blocksize, mode):
    n, c, h, w = x.shape
    b, k = blocksize, c // blocksize**2
    if mode == "DCR":
        y = x.reshape(n, b, b, k, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, k, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, k, h * b, w * b)


def _space_to_depth_type(call: Call) -> list[TensorType]:
    x, b = _image(call), call.attrs.blocksize
    n, c, h, w = x.shape
    return [x.with_shape((n, c * (b * b), _exact(call, h, b, "height"), _exact(call, w, b, "width")))]


def _space_to_depth(x, blocksize, mode):
    n, c, h, w = x.shape
    b = blocksize
    y = x.reshape(n, c, h // b, b, w // b, b).transpose((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return y.reshape(n, c * b * b, h // b, w // b)


_BLOCKS = {"blocksize": Attr(int), "mode": Attr(str, "DCR", ("DCR", "CRD"))}
move(
    "DepthToSpace",
    "x",
    _depth_to_space_type,
    _depth_to_space,
    [Case((Tensor((2, 8, 2, 3)),), {"blocksize": 2, "mode": m}) for m in ("DCR", "CRD")],
    _BLOCKS,
)
move(
    "SpaceToDepth",
    "x",
    _space_to_depth_type,
    _space_to_depth,
    [Case((Tensor((2, 3, 4, 6)),), {"blocksize": 2, "mode": m}) for m in ("DCR", "CRD")],
    _BLOCKS,
)


def fold_geometry(rank: int, dilations, pads, strides) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Dilations, pads and strides of Col2Im, with the defaults of those that are not given."""
    return dilations or (1,) * rank, pads or (0,) * (2 * rank), strides or (1,) * rank


def _folded(call: Call) -> list[TensorType]:
    x, image, block = call.type(0), call.ints(1), call.ints(2)
    if x.dtype.kind == "O":
        raise call.fail("takes numbers, not strings")
    if x.rank != 3 or len(image) != len(block):
        raise call.fail(f"takes columns [N, C*block, L]; image {image} and block {block} must have one size per axis")
    dilations, pads, strides = fold_geometry(len(image), call.attrs.dilations, call.attrs.pads, call.attrs.strides)
    if not len(dilations) == len(strides) == len(pads) // 2 == len(image):
        raise call.fail(f"dilations, strides and pads must fit {len(image)} axes")
    counts = [
        (d + pads[i] + pads[len(image) + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        for i, d in enumerate(image)
    ]
    if isinstance(x.shape[2], int) and x.shape[2] != math.prod(counts):
        raise call.fail(f"{x.shape[2]} columns do not cover image {image} with {counts} blocks")
    return [x.with_shape((x.shape[0], _exact(call, x.shape[1], math.prod(block), "rows"), *image))]


def _col2im(x, image, block, dilations, pads, strides):
    image, block = [int(d) for d in image], [int(d) for d in block]
    dilations, pads, strides = fold_geometry(len(image), dilations, pads, strides)
    n, c = x.shape[0], x.shape[1] // math.prod(block)
    padded = [d + pads[i] + pads[len(image) + i] for i, d in enumerate(image)]
    counts = [(d - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1 for i, d in enumerate(padded)]
    columns = x.reshape(n, c, *block, *counts)
    out = np.zeros((n, c, *padded), x.dtype)
    for offset in np.ndindex(*block):
        at = tuple(slice(o * d, o * d + s * (m - 1) + 1, s) for o, d, s, m in zip(offset, dilations, strides, counts))
        place, column = (slice(None), slice(None), *at), (slice(None), slice(None), *offset)
        out[place] += columns[column]
    inner = (slice(None), slice(None), *(slice(pads[i], pads[i] + d) for i, d in enumerate(image)))
    return out[inner]


move(
    "Col2Im",
    "x image_shape block_shape",
    _folded,
    _col2im,
    [
        Case((Tensor((1, 5, 5)), Const([5, 5]), Const([1, 5]))),
        Case((Tensor((2, 8, 9)), Const([4, 4]), Const([2, 2]))),
        Case((Tensor((1, 9, 4)), Const([6, 6]), Const([3, 3])), {"dilations": (1, 1), "strides": (3, 3)}),
        Case((Tensor((1, 4, 15)), Const([5, 5]), Const([2, 2])), {"pads": (0, 1, 0, 0), "dilations": (2, 1)}),
        Case((Tensor((1, 10, 12)), Const([3, 4, 5]), Const([1, 1, 5])), {"strides": (1, 1, 1)}),
    ],
    {"dilations": Attr("ints", None), "pads": Attr("ints", None), "strides": Attr("ints", None)},
    values=(1, 2),
    dtypes=FLOATS,
    tolerance=1e-6,
)

"""Images of many sizes in one plan: resized, padded, cut. Blocked (behind a convolution) and dense, of one to three axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from many import agree, images

from graphc.graph import Builder, Graph

RNG = np.random.default_rng(0)
BOTH = pytest.mark.parametrize("blocked", [False, True])
F32 = np.float32


def graph(blocked: bool, rank: int, op: str, *operands: Any, **attrs: Any) -> Graph:
    b = Builder(op)
    v = x = b.input("x", F32, (1, 3, *"dhw"[:rank]))
    if blocked:
        v = b.add("Conv", x, b.constant(RNG.standard_normal((16, 3, *[1] * rank)), F32))
    given = [None if o is None else b.constant(o) for o in operands]
    return b.build({"y": b.add("Relu", b.add(op, v, *given, **attrs))})


def resize(blocked: bool, scales: list[float] | None = None, sizes: list[int] | None = None, **attrs: Any) -> set[str]:
    rank = len(scales) - 2 if scales else 2
    targets = (F32(scales),) if scales else (None, np.array(sizes))
    return agree(graph(blocked, rank, "Resize", None, *targets, **attrs), images(RNG, 5, 3, rank), 4)


@BOTH
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 0.5, 1], [1, 1, 0.7, 1.3], [1, 1, 1.7], [1, 1, 2, 0.6, 1.5]])
def test_resize(mode: str, scales: list[float], blocked: bool):
    kernels = resize(blocked, scales, mode=mode)
    if mode == "nearest":
        assert ("pick_pixels" if blocked else "copy_tables") in kernels
        assert "write_positions" in kernels
    elif not (mode == "cubic" and len(scales) == 5):  # 64 taps
        assert ("resize_blocked" if blocked else "blend") in kernels
        assert "write_taps" in kernels or not blocked


@BOTH
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("transform", ["asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"])
def test_where_a_resize_reads(transform: str, mode: str, blocked: bool):
    resize(blocked, [1, 1, 1.5, 0.75], mode=mode, coordinate_transformation_mode=transform)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_rounding_of_positions(rounding: str):
    for transform in ("half_pixel", "asymmetric", "align_corners"):
        resize(True, [1, 1, 0.5, 2.5], nearest_mode=rounding, coordinate_transformation_mode=transform)


@BOTH
def test_weights_of_what_lies_outside(blocked: bool):
    for mode in ("linear", "cubic"):
        resize(blocked, [1, 1, 0.6, 1.7], mode=mode, exclude_outside=True, cubic_coeff_a=-0.5)


@BOTH
def test_to_given_sizes(blocked: bool):
    for policy in ("stretch", "not_larger", "not_smaller"):
        for mode in ("nearest", "linear"):
            resize(blocked, sizes=[40, 50], axes=(2, 3), mode=mode, keep_aspect_ratio_policy=policy)


def test_to_the_sizes_of_another_image():
    b = Builder("like")
    x, y = (b.input(n, F32, (1, 3, f"{n}h", f"{n}w")) for n in "xy")
    to = b.add("Concat", b.constant([1, 3]), b.add("Shape", y, start=2), axis=0)
    g = b.build({"z": b.add("Add", b.add("Resize", x, None, None, to, mode="linear"), y)})
    small, large = images(RNG, 4, 3, 2, 4, 20), images(RNG, 4, 3, 2, 24, 60)
    agree(g, [{"x": s["x"], "y": t["x"]} for s, t in zip(small, large)], 2)


def test_an_image_of_one_size_to_that_of_others():
    b = Builder("like")
    x, y = b.input("x", F32, (1, 3, 8, 9)), b.input("y", F32, (1, 3, "h", "w"))
    to = b.add("Concat", b.constant([1, 3]), b.add("Shape", y, start=2), axis=0)
    g = b.build({"z": b.add("Add", b.add("Resize", x, None, None, to, mode="linear"), y)})
    agree(
        g, [{"x": RNG.standard_normal((1, 3, 8, 9), dtype=F32), "y": f["x"]} for f in images(RNG, 4, 3, 2, 12, 40)], 1
    )


@BOTH
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(mode: str, blocked: bool):
    for pads in ([0, 0, 1, 2, 0, 0, 3, 1], [0, 0, -1, 2, 0, 0, 3, -2], [0, 0, 9, 0, 0, 0, 11, 0], [0, 0, 9, 0, 0, 3]):
        rank = len(pads) // 2 - 2
        kernels = agree(graph(blocked, rank, "Pad", np.array(pads), mode=mode), images(RNG, 4, 3, rank), 4)
        assert ("pick_pixels" if blocked else "copy_tables") in kernels
    agree(graph(blocked, 3, "Pad", np.array([0, 0, 1, 2, 0, 0, 0, 1, 0, 2]), mode=mode), images(RNG, 4, 3, 3), 4)


def test_pad_up_to_a_multiple():
    for mode in ("constant", "reflect"):
        b = Builder("multiple")
        x = b.input("x", F32, (1, 3, "h", "w"))
        more = b.add("Mod", b.add("Neg", b.add("Shape", x, start=2)), b.constant([8, 8]))
        pads = b.add("Concat", b.constant([0, 0, 0, 0, 0, 0]), more, axis=0)
        g = b.build({"y": b.add("Relu", b.add("Pad", x, pads, mode=mode))})
        agree(g, images(RNG, 6, 3, 2, 9, 40), 2)


@BOTH
def test_slice(blocked: bool):
    for starts, ends, axes, steps in (
        ([1, 2], [-1, 1000], [2, 3], [1, 1]),
        ([-1, 0], [-2000, -1], [2, 3], [-1, 2]),
        ([0], [4], [3], [1]),
        ([3], [9], [1], [2]),
        ([0], [16], [1], [1]),
    ):
        operands = map(np.array, (starts, ends, axes, steps))
        agree(graph(blocked, 2, "Slice", *operands), images(RNG, 4, 3, 2, 5), 4)


def test_crop_or_pad_around_the_centre():
    for shape in ([1, 3, 4, 50], [1, 3, 51, 3]):
        agree(graph(False, 2, "CenterCropPad", np.array(shape)), images(RNG, 5, 3, 2, 5), 2)


def test_tiles_of_any_width():
    """Pools, and a convolution of few channels: the pixels of a tile follow from the width."""
    b = Builder("tiles")
    x = b.input("x", F32, (1, 3, "h", "w"))
    few = b.add("Conv", x, b.constant(RNG.standard_normal((3, 3, 3, 3)), F32), pads=(1, 1, 1, 1))
    v = b.add("Conv", few, b.constant(RNG.standard_normal((16, 3, 1, 1)), F32))
    tall = b.add("MaxPool", v, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    wide = b.add("AveragePool", tall, kernel_shape=(2, 2))
    off = {"disabled": ["winograd"]}
    agree(
        b.build({"y": few, "z": b.add("MaxPool", wide, kernel_shape=(9, 9))}), images(RNG, 12, 3, 2, 40, 140), 3, **off
    )

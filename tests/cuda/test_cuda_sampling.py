"""RoiAlign, MaxRoiPool, GridSample and ChannelShuffle on CUDA kernels against their references, mostly in checked runs."""

from __future__ import annotations

import numpy as np
import pytest
from suite import check, compiled, host_reasons, use, uses_of

import graphc
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.backends.cuda.sampling.grid_block import TAPS, Grid
from graphc.backends.cuda.sampling.regions_block import RegionMaxima, Regions
from graphc.errors import InputError
from graphc.lower.kernel import Kernel

TARGET = "cuda:emulate"
F32 = np.float32
FORMS = [
    {"sampling_ratio": 2, "output_height": 3, "output_width": 2},
    {"output_height": 7, "output_width": 7, "spatial_scale": 0.9},
    {"coordinate_transformation_mode": "output_half_pixel", "sampling_ratio": 1, "output_height": 2, "output_width": 5},
    {"coordinate_transformation_mode": "output_half_pixel"},
]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


@pytest.mark.parametrize("name", ["RoiAlign", "MaxRoiPool", "GridSample", "ChannelShuffle"])
def test_every_case(name: str):
    for one in uses_of(name):
        assert not host_reasons(check(one, TARGET), one), one


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["RoiAlign", "MaxRoiPool", "GridSample"])
def test_every_dtype(name: str, dtype: str):
    for one in uses_of(name, [dtype])[::7]:
        assert not host_reasons(check(one, TARGET), one), one


# --- RoiAlign ---------------------------------------------------------------------------------------------------------
def regions(count: int, side: float) -> np.ndarray:
    """Some reach out of an image of that side, some are turned inside out."""
    rng = np.random.default_rng(0)
    start = rng.uniform(-side / 2, 1.5 * side, (count, 2))
    return np.concatenate([start, start + rng.uniform(-1, side, (count, 2))], 1).astype(F32)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(F32)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_regions_of_images(form: dict, mode: str, checked):
    for shape in ((1, 1, 1, 1), (2, 3, 8, 9), (1, 2, 33, 17)):
        for count in (0, 1, 13):
            for dtype in (np.int64, np.int32):
                numbers = (np.arange(count) % shape[0]).astype(dtype)
                one = use("RoiAlign", images(*shape), regions(count, shape[3]), numbers, mode=mode, **form)
                assert not host_reasons(check(one, TARGET), one)


def test_no_image_of_that_number(checked):
    x, rois = images(2, 3, 8, 8), regions(3, 8)
    one = use("RoiAlign", x, rois, np.array([0, 1, 1]), sampling_ratio=2)
    model = compiled(one, TARGET)
    for numbers in ([0, 2, 1], [0, 1, -1], [7, 5, 3]):
        with pytest.raises(InputError, match="batch index") as caught:
            model.run({"x0": x, "x1": rois, "x2": np.array(numbers)})
        with pytest.raises(InputError) as wanted:
            use("RoiAlign", x, rois, np.array(numbers), sampling_ratio=2).run()
        assert caught.value.message == wanted.value.message
    check(one, TARGET)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_a_region_far_outside_or_huge_takes_no_time(mode: str):
    """Samples that are beyond the image are not looked at, however many there are."""
    rois = np.array([[-1e9, -1e9, 1e9, 1e9], [1e12, 0, 2e12, 5], [np.nan, 0, 1, 1], [0, 0, np.inf, 3]], F32)
    one = use("RoiAlign", images(1, 2, 8, 8), rois, np.zeros(4, np.int64), output_height=2, output_width=2, mode=mode)
    y = compiled(one, TARGET).run(dict(zip(("x0", "x1", "x2"), one.inputs)))["y0"]
    assert not y[1:].any() and (mode == "max" or np.abs(y[0]).max() < 1e-6)


# --- MaxRoiPool -------------------------------------------------------------------------------------------------------
def of_images(count: int, side: float, images: int) -> np.ndarray:
    """The same regions, each behind the number of its image."""
    return np.concatenate([(np.arange(count) % images)[:, None].astype(F32), regions(count, side)], 1)


@pytest.mark.parametrize("form", [{"pooled_shape": (3, 2)}, {"pooled_shape": (7, 7), "spatial_scale": 0.5}], ids=str)
def test_largest_pixels_of_regions(form: dict, checked):
    for shape in ((1, 1, 1, 1), (2, 3, 8, 9), (1, 2, 33, 17)):
        for count in (0, 1, 13):
            one = use("MaxRoiPool", images(*shape), of_images(count, shape[3], shape[0]), **form)
            assert not host_reasons(check(one, TARGET), one)


def test_pixels_and_corners_that_are_no_numbers():
    """NaN is the largest pixel; a region with a corner that is none, or far outside, has no pixels."""
    x = images(1, 1, 4, 4)
    x[0, 0, 1, 1] = np.nan
    rois = [[0, 0, 3, 3], [2, 2, 3, 3], [-9, -9, -5, -5], [1e30, 0, 2e30, 5], [np.nan, 0, 1, 1], [0, 0, np.inf, 3]]
    boxes = np.array([[0, *r] for r in rois], F32)
    y = compiled(use("MaxRoiPool", x, boxes, pooled_shape=(1, 2)), TARGET).run({"x0": x, "x1": boxes})["y0"][:, 0, 0]
    np.testing.assert_array_equal(y[:2], [[np.nan, x[0, 0, :, 2:].max()], [x[0, 0, 2:, 2].max(), x[0, 0, 2:, 3].max()]])
    assert not y[2:].any()


def test_no_image_of_the_number_in_a_region(checked):
    x, rois = images(2, 3, 8, 8), of_images(3, 8, 2)
    one = use("MaxRoiPool", x, rois, pooled_shape=(2, 2))
    model = compiled(one, TARGET)
    for numbers in ([0, 2, 1], [0, 1, -1], [7, 5, 3]):
        rois[:, 0] = numbers
        with pytest.raises(InputError, match="batch index") as caught:
            model.run({"x0": x, "x1": rois})
        with pytest.raises(InputError) as wanted:
            use("MaxRoiPool", x, rois, pooled_shape=(2, 2)).run()
        assert caught.value.message == wanted.value.message


# --- GridSample -------------------------------------------------------------------------------------------------------
def grid(*shape: int) -> np.ndarray:
    """Positions of which some are outside, on the borders, at centers of pixels and between them."""
    g = np.random.default_rng(2).uniform(-2.5, 2.5, shape).astype(F32)
    if g.size:
        g[0, 0], g[-1, -1], g[0, -1, 0] = -1, 1, [1e7, -1e7]
    return g


@pytest.mark.parametrize("mode", TAPS)
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("align", [False, True])
def test_positions_of_a_grid(mode: str, padding: str, align: bool, checked):
    for n, c, h, w, rows, columns in (
        (2, 3, 8, 9, 5, 7),
        (1, 1, 1, 1, 3, 3),
        (1, 17, 33, 17, 13, 15),
        (2, 2, 4, 4, 0, 3),
    ):
        one = use(
            "GridSample", images(n, c, h, w), grid(n, rows, columns, 2),
            mode=mode, padding_mode=padding, align_corners=align,
        )  # fmt: skip
        assert not host_reasons(check(one, TARGET), one)


@pytest.mark.parametrize("mode", TAPS)
@pytest.mark.parametrize("align", [False, True])
def test_positions_that_are_mirrored(mode: str, align: bool, checked):
    for n, c, h, w in ((2, 3, 8, 9), (1, 1, 1, 1), (1, 2, 1, 30)):
        g = np.random.default_rng(2).uniform(-9, 9, (n, 11, 6, 2)).astype(F32)
        one = use("GridSample", images(n, c, h, w), g, mode=mode, padding_mode="reflection", align_corners=align)
        assert not host_reasons(check(one, TARGET), one)


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 9, 4, 5, 3)], ids=str)
@pytest.mark.parametrize("mode", TAPS)
def test_lines_and_volumes(shape: tuple[int, ...], mode: str, checked):
    rank = len(shape) - 2
    g = np.random.default_rng(2).uniform(-1.5, 1.5, (2, *(3, 2, 5)[:rank], rank)).astype(F32)
    for padding in ("zeros", "border", "reflection"):
        one = use("GridSample", images(*shape), g, mode=mode, padding_mode=padding)
        assert not host_reasons(check(one, TARGET), one)


def test_the_nearest_of_two_pixels_is_the_one_of_the_reference():
    """At halves, which float32 hits or misses."""
    for size in (3, 5, 7, 100):
        for align in (False, True):
            g = np.linspace(-1, 1, 4 * size + 1, dtype=F32)
            g = np.stack([g, g[::-1]], -1)[None, None]
            one = use("GridSample", images(1, 1, size, size), g, mode="nearest", align_corners=align)
            got = compiled(one, TARGET).run(dict(zip(("x0", "x1"), one.inputs)))["y0"]
            np.testing.assert_array_equal(got, compiled(one, "cpu").run(dict(zip(("x0", "x1"), one.inputs)))["y0"])


def test_pixels_that_are_not_read_add_nothing():
    x = np.full((1, 1, 3, 3), np.inf, F32)
    x[0, 0, 0, 0] = 2
    g = np.array([[[[-1, -1], [-2, -2], [-1.2, -1.2], [1, 1]]]], F32)
    model = compiled(use("GridSample", x, g), TARGET)
    np.testing.assert_allclose(model.run({"x0": x, "x1": g})["y0"][0, 0, 0], [0.5, 0, 0.08, np.inf], rtol=1e-5)


def test_a_grid_of_numbers_that_are_none(checked):
    x, g = images(1, 2, 4, 4), grid(1, 3, 5, 2)
    model = compiled(use("GridSample", x, g), TARGET)
    for wrong in (np.nan, np.inf, -np.inf):
        bad = g.copy()
        bad[0, 2, 3, 1] = wrong
        bad[0, 1, 1, 0] = wrong
        with pytest.raises(InputError, match="the grid holds NaN or infinite positions"):
            model.run({"x0": x, "x1": bad})
    check(use("GridSample", x, g), TARGET)


# --- plans and machine code -------------------------------------------------------------------------------------------
def test_channels_are_shuffled_by_one_step():
    (one, *_) = uses_of("ChannelShuffle")
    model: graphc.Model = check(one, TARGET)
    assert [s.kernel for s in model.plan().steps] == ["copy_strided"]


KERNELS = [
    *(Grid("float32", "float32", 2, mode) for mode in TAPS),
    Regions("float32", "float32", False),
    RegionMaxima("float32"),
]


@pytest.mark.sample(1)
@pytest.mark.parametrize("arch, kernels", [((9, 0), KERNELS), ((8, 0), KERNELS[1:2])], ids=["9.0", "8.0"])
def test_registers_are_enough(arch: tuple[int, int], kernels: list[Kernel]):
    for kernel in kernels:
        assert not cubin_of(kernel, arch).spilled, kernel

"""RoiAlign, MaxRoiPool and GridSample: kernels against references."""

from __future__ import annotations

import numpy as np
import pytest
from suite import check, compiled, host_reasons, use
from targets import require

from graphc.errors import InputError

F32 = np.float32
FORMS = [
    {"sampling_ratio": 2, "output_height": 3, "output_width": 2},
    {"output_height": 7, "output_width": 7, "spatial_scale": 0.9},
    {"coordinate_transformation_mode": "output_half_pixel", "sampling_ratio": 1, "output_height": 2, "output_width": 5},
    {"coordinate_transformation_mode": "output_half_pixel"},
    {"mode": "max", "sampling_ratio": 2, "output_height": 3, "output_width": 2},
    {"mode": "max", "output_height": 2, "output_width": 3, "coordinate_transformation_mode": "output_half_pixel"},
]


TARGETS = [("cpu", 2, True), ("cpu", 1, False), ("cpu:avx2", 1, False), ("cpu:portable", 1, True)]


@pytest.fixture(params=TARGETS, ids=str)
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """A target and its threads."""
    target, threads, is_checked = request.param
    require(target)
    if is_checked:
        monkeypatch.setenv("GRAPHC_CHECK", "memory")
    return target, threads


# --- RoiAlign ---------------------------------------------------------------------------------------------------------
def regions(count: int, side: float, seed: int = 0) -> np.ndarray:
    """Some reach out of an image of that side, some are turned inside out."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-side / 2, 1.5 * side, (count, 2))
    return np.concatenate([start, start + rng.uniform(-1, side, (count, 2))], 1).astype(F32)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(F32)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 8, 9), (1, 2, 33, 17), (2, 70, 16, 15)], ids=str)
def test_regions_of_images(form, shape, where):
    for count in (0, 1, 23):
        for dtype in (np.int64, np.int32):
            numbers = (np.arange(count) % shape[0]).astype(dtype)
            one = use("RoiAlign", images(*shape), regions(count, shape[3]), numbers, **form)
            assert not host_reasons(check(one, *where), one)


def test_no_image_of_that_number():
    x, rois = images(2, 3, 8, 8), regions(3, 8)
    one = use("RoiAlign", x, rois, np.array([0, 1, 1]), sampling_ratio=2)
    model = compiled(one, threads=2)
    for numbers in ([0, 2, 1], [0, 1, -1]):
        with pytest.raises(InputError, match="batch index") as caught:
            model.run({"x0": x, "x1": rois, "x2": np.array(numbers)})
        with pytest.raises(InputError) as wanted:
            use("RoiAlign", x, rois, np.array(numbers), sampling_ratio=2).run()
        assert caught.value.message == wanted.value.message
    check(one)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_regions_in_float64(mode: str, where):
    x, rois = images(2, 3, 8, 9).astype(np.float64), regions(9, 8).astype(np.float64)
    one = use("RoiAlign", x, rois, np.arange(9) % 2, mode=mode, output_height=3, output_width=2)
    assert not host_reasons(check(one, *where), one)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_a_region_far_outside_or_huge_takes_no_time(mode: str):
    """Samples that are beyond the image are not looked at, however many there are."""
    rois = np.array([[-1e9, -1e9, 1e9, 1e9], [1e12, 0, 2e12, 5], [np.nan, 0, 1, 1], [0, 0, np.inf, 3]], F32)
    one = use("RoiAlign", images(1, 2, 8, 8), rois, np.zeros(4, np.int64), output_height=2, output_width=2, mode=mode)
    y = compiled(one).run(dict(zip(("x0", "x1", "x2"), one.inputs)))["y0"]
    assert not y[1:].any()
    if mode == "avg":
        assert np.abs(y[0]).max() < 1e-6


# --- MaxRoiPool -------------------------------------------------------------------------------------------------------
def of_images(count: int, side: float, images: int) -> np.ndarray:
    """The same regions, each behind the number of its image."""
    return np.concatenate([(np.arange(count) % images)[:, None].astype(F32), regions(count, side)], 1)


@pytest.mark.parametrize("form", [{"pooled_shape": (3, 2)}, {"pooled_shape": (7, 7), "spatial_scale": 0.9}], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 8, 9), (1, 2, 33, 17), (2, 70, 16, 15)], ids=str)
def test_largest_pixels_of_regions(form, shape, where):
    for count in (0, 1, 23):
        one = use("MaxRoiPool", images(*shape), of_images(count, shape[3], shape[0]), **form)
        assert not host_reasons(check(one, *where), one)


def test_pixels_and_corners_that_are_no_numbers():
    """NaN is the largest pixel; a region with a corner that is none, or far outside, has no pixels."""
    x = images(1, 1, 4, 4)
    x[0, 0, 1, 1] = np.nan
    rois = [[0, 0, 3, 3], [2, 2, 3, 3], [-9, -9, -5, -5], [1e30, 0, 2e30, 5], [np.nan, 0, 1, 1], [0, 0, np.inf, 3]]
    boxes = np.array([[0, *r] for r in rois], F32)
    y = compiled(use("MaxRoiPool", x, boxes, pooled_shape=(1, 2))).run({"x0": x, "x1": boxes})["y0"][:, 0, 0]
    np.testing.assert_array_equal(y[:2], [[np.nan, x[0, 0, :, 2:].max()], [x[0, 0, 2:, 2].max(), x[0, 0, 2:, 3].max()]])
    assert not y[2:].any()


def test_no_image_of_the_number_in_a_region():
    x, rois = images(2, 3, 8, 8), of_images(3, 8, 2)
    model = compiled(use("MaxRoiPool", x, rois, pooled_shape=(2, 2)), threads=2)
    for numbers in ([0, 2, 1], [0, 1, -1]):
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
        g[0, 0], g[-1, -1], g[0, -1, 0] = -1, 1, [1e7, -1e7, 1e7][: shape[-1]]
    return g


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("align", [False, True])
def test_positions_of_a_grid(mode: str, padding: str, align: bool, where):
    for n, c, h, w, rows, columns in (
        (2, 3, 8, 9, 5, 7),
        (1, 1, 1, 1, 3, 3),
        (1, 5, 33, 17, 13, 15),
        (2, 2, 4, 4, 0, 3),
    ):
        one = use(
            "GridSample", images(n, c, h, w), grid(n, rows, columns, 2),
            mode=mode, padding_mode=padding, align_corners=align,
        )  # fmt: skip
        assert not host_reasons(check(one, *where), one)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("align", [False, True])
def test_positions_that_are_mirrored(mode: str, align: bool, where):
    for n, c, h, w in ((2, 3, 8, 9), (1, 1, 1, 1), (1, 2, 1, 30)):
        g = np.random.default_rng(2).uniform(-9, 9, (n, 11, 6, 2)).astype(F32)
        one = use("GridSample", images(n, c, h, w), g, mode=mode, padding_mode="reflection", align_corners=align)
        assert not host_reasons(check(one, *where), one)


@pytest.mark.sample(6)
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("align", [False, True])
def test_any_number_of_axes_and_both_precisions(mode: str, padding: str, align: bool, where):
    rng = np.random.default_rng(3)
    for sizes, points in (
        ((9,), (70,)),
        ((5, 4), (3, 5)),
        ((1, 1), (2, 2)),
        ((4, 1, 6), (2, 3, 4)),
        ((2, 3, 2, 3), (1, 2, 2, 3)),
    ):
        x, g = rng.normal(size=(2, 3, *sizes)), rng.uniform(-2.5, 2.5, (2, *points, len(sizes)))
        kinds = [(F32, F32), (np.float64, np.float64)] if len(sizes) > 1 else [(F32, np.float64)]
        for kind, of_grid in kinds:
            attrs = {"mode": mode, "padding_mode": padding, "align_corners": align}
            one = use("GridSample", x.astype(kind), g.astype(of_grid), **attrs)
            assert not host_reasons(check(one, *where), one)


def test_volumes_that_are_no_numbers():
    x, g = images(1, 2, 4, 4, 3), grid(1, 3, 5, 2, 3)[..., :3].copy()
    model = compiled(use("GridSample", x, g), threads=2)
    g[0, 2, 3, 1, 0] = np.nan
    with pytest.raises(InputError, match="the grid holds NaN or infinite positions"):
        model.run({"x0": x, "x1": g})


def test_pixels_that_are_not_read_add_nothing(where):
    x = np.full((1, 1, 3, 3), np.inf, F32)
    x[0, 0, 0, 0] = 2
    g = np.array([[[[-1, -1], [-2, -2], [-1.2, -1.2], [1, 1]]]], F32)
    model = compiled(use("GridSample", x, g), *where)
    np.testing.assert_allclose(model.run({"x0": x, "x1": g})["y0"][0, 0, 0], [0.5, 0, 0.08, np.inf], rtol=1e-5)


def test_a_grid_of_numbers_that_are_none():
    x, g = images(1, 2, 4, 4), grid(1, 3, 5, 2)
    model = compiled(use("GridSample", x, g), threads=2)
    for wrong in (np.nan, np.inf, -np.inf):
        bad = g.copy()
        bad[0, 2, 3, 1] = wrong
        with pytest.raises(InputError, match="the grid holds NaN or infinite positions"):
            model.run({"x0": x, "x1": bad})
    check(use("GridSample", x, g))

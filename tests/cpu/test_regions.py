"""RoiAlign's kernel against its reference."""

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
]


def regions(count: int, side: float, seed: int = 0) -> np.ndarray:
    """Some reach out of an image of that side, some are turned inside out."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-side / 2, 1.5 * side, (count, 2))
    return np.concatenate([start, start + rng.uniform(-1, side, (count, 2))], 1).astype(F32)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(F32)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 8, 9), (1, 2, 33, 17), (2, 70, 16, 15)], ids=str)
@pytest.mark.parametrize("target, threads, is_checked", [("cpu", 2, True), ("cpu", 1, False), ("cpu:avx2", 1, False), ("cpu:portable", 1, True)])  # fmt: skip
def test_regions_of_images(form, shape, target: str, threads: int, is_checked: bool, monkeypatch: pytest.MonkeyPatch):
    require(target)
    if is_checked:
        monkeypatch.setenv("GRAPHC_CHECK", "memory")
    for count in (0, 1, 23):
        for dtype in (np.int64, np.int32):
            numbers = (np.arange(count) % shape[0]).astype(dtype)
            one = use("RoiAlign", images(*shape), regions(count, shape[3]), numbers, **form)
            assert not host_reasons(check(one, target, threads), one)


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


def test_a_region_far_outside_or_huge_takes_no_time():
    """Samples that are beyond the image are not looked at, however many there are."""
    rois = np.array([[-1e9, -1e9, 1e9, 1e9], [1e12, 0, 2e12, 5], [np.nan, 0, 1, 1], [0, 0, np.inf, 3]], F32)
    one = use("RoiAlign", images(1, 2, 8, 8), rois, np.zeros(4, np.int64), output_height=2, output_width=2)
    y = compiled(one).run(dict(zip(("x0", "x1", "x2"), one.inputs)))["y0"]
    assert np.abs(y[0]).max() < 1e-6 and not y[1:].any()

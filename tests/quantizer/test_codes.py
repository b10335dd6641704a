"""Scales, zero points and codes against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.dtypes import int_range
from graphc.quantizer.codes import affine, bias_codes, block_codes, symmetric_codes, weight_scales
from graphc.quantizer.ranges import Range
from graphc.types import dtype_from_name

INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)
RNG = np.random.default_rng(3)


@pytest.mark.parametrize("extent", [(-1.5, 3.0), (0.0, 6.0), (2.0, 5.0), (-4.0, -1.0), (-1e-3, 100.0)], ids=str)
@pytest.mark.parametrize("dtype", [INT8, UINT8], ids=str)
def test_an_affine_range(extent: tuple[float, float], dtype: np.dtype):
    """0 has a code, the ends of the range the outermost ones to half a step, and no value within is further away than that."""
    numbers = affine(Range(*extent), dtype, False)
    low, high = min(extent[0], 0), max(extent[1], 0)
    assert numbers.scale == pytest.approx((high - low) / 255, rel=1e-6)
    least, most = int_range(dtype)
    assert least <= numbers.zero <= most and numbers.zero.dtype == dtype and numbers.scale.dtype == np.float32
    x = np.linspace(*extent, 1001).astype(np.float32)
    assert np.abs(numbers.codes(x).floats - x).max() <= 1.001 * numbers.scale
    assert np.abs(numbers.codes(x).floats - x).mean() < 0.3 * numbers.scale
    assert numbers.codes(np.zeros(1, np.float32)).floats == 0


@pytest.mark.parametrize(("dtype", "middle"), [(INT8, 0), (UINT8, 128)])
def test_a_symmetric_range(dtype: np.dtype, middle: int):
    numbers = affine(Range(-1, 3), dtype, True)
    assert numbers.zero == middle and numbers.scale == np.float32(3 / 127)


@pytest.mark.parametrize("extent", [(0.0, 0.0), (0.0, 1e-42), (-1e-45, 0.0)], ids=str)
def test_a_range_of_nothing(extent: tuple[float, float]):
    numbers = affine(Range(*extent), UINT8, False)
    assert numbers.scale == 1 and numbers.codes(np.zeros(2, np.float32)).floats.tolist() == [0, 0]


@pytest.mark.parametrize("most", [127, 64])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_weights(axis: int | None, most: int):
    """The formula, element by element."""
    w = RNG.standard_normal((4, 5, 3)).astype(np.float32)
    scale = weight_scales(w, axis, most)
    codes = symmetric_codes(w, scale, axis, INT8, most)
    for index in np.ndindex(w.shape):
        largest = np.abs(w if axis is None else w.take(index[axis], axis)).max()
        assert codes.values[index] == round(float(w[index] / np.float32(largest / most)))
    assert not codes.zero.any() and np.abs(codes.values.astype(int)).max() == most
    assert codes.scale.shape == (() if axis is None else (w.shape[axis],))


def test_a_channel_of_zeros():
    w = np.zeros((3, 4), np.float32)
    w[1] = 2
    scale = weight_scales(w, 0, 127)
    assert scale.tolist() == [2 / 127] * 3  # so a bias has steps as fine as other channels'
    assert weight_scales(0 * w, 0, 127).tolist() == [1 / 127] * 3
    assert not symmetric_codes(w, scale, 0, INT8, 127).values[0].any()


def test_a_bias():
    scale = np.array([1e-3, 1e-12, 0.5])
    codes = bias_codes(np.array([0.25, 1, -7.3], np.float32), scale)
    assert codes.values.tolist() == [250, 2**31 - 1, -15] and codes.values.dtype == np.int32


@pytest.mark.parametrize("size", [64, 70])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["int4", "uint4"])
def test_blocks(name: str, axis: int, size: int):
    """Every weight is within half a step of the scale that its block has at most, unless it was cut off; and the squares of errors
    are no more than those of the largest magnitude over the largest code."""
    shape = (size, 6) if axis == 0 else (6, size)
    w = (RNG.standard_normal(shape) + 0.4).astype(np.float32)
    codes = block_codes(w, axis, 16, dtype_from_name(name))
    assert codes.values.shape == shape and codes.values.dtype.name == name
    assert codes.scale.shape == codes.zero.shape == tuple(-(-d // 16) if i == axis else d for i, d in enumerate(shape))
    assert name == "uint4" or not codes.zero.astype(int).any()
    plain = 0.0
    least, most = int_range(codes.values.dtype)
    for start in range(0, size, 16):
        for other in range(6):
            block = w[start : start + 16, other] if axis == 0 else w[other, start : start + 16]
            low, high = min(block.min(), 0), max(block.max(), 0)
            step = max(-low, high) / most if least < 0 else (high - low) / (most - least)
            zero = 0 if least < 0 else round(float(-low / step))
            back = (np.clip(np.rint(block / step) + zero, least, most) - zero) * step
            plain += float(np.square(back - block).sum())
            mine = codes.scale[(start // 16, other) if axis == 0 else (other, start // 16)]
            assert 0 < mine <= step * 1.0001
    assert np.square(codes.floats - w).sum() <= plain * 1.001


def test_blocks_of_zeros():
    codes = block_codes(np.zeros((32, 2), np.float32), 0, 16, dtype_from_name("int4"))
    assert codes.scale.tolist() == [[1, 1], [1, 1]] and not codes.floats.any()

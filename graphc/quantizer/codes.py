"""Scales, zero points, and arrays as codes: x ≈ scale · (code - zero)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from graphc.dtypes import int_range
from graphc.ops.quantize import aligned, to_quantized
from graphc.quantizer.ranges import Range

FLOAT32, INT32 = np.dtype(np.float32), np.dtype(np.int32)
LEAST = float(np.finfo(np.float32).tiny)  # of a scale
TRIED = 16  # scales for a block
CHUNK = 2048  # blocks at a time, which caches hold


class Codes(NamedTuple):
    """Constants of a DequantizeLinear."""

    values: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    axis: int = 1
    block: int = 0

    @property
    def floats(self) -> np.ndarray:
        """What they stand for."""
        scale, zero = (aligned(a, self.values.shape, self.axis, self.block) for a in (self.scale, self.zero))
        return (self.values.astype(np.float32) - zero.astype(np.float32)) * scale


class Affine(NamedTuple):
    """The scale (float32) and the zero point (of the codes' dtype) of a whole tensor, both scalars."""

    scale: np.ndarray
    zero: np.ndarray

    def codes(self, x: np.ndarray) -> Codes:
        return Codes(to_quantized(x / self.scale, self.zero, self.zero.dtype), self.scale, self.zero)


def affine(extent: Range, dtype: np.dtype, symmetric: bool) -> Affine:
    """The codes from the lowest to the highest over a range, widened to hold 0, which has a code of its own.

    symmetric: 0 has the code 0, or 128 of unsigned ones, and the range is as wide on either side.
    """
    low, high = min(extent.low, 0.0), max(extent.high, 0.0)
    least, most = int_range(dtype)
    middle = (least + most + 1) // 2
    if symmetric:
        scale = max(-low, high) / (most - middle)
        zero = middle
    else:
        scale = (high - low) / (most - least)
        zero = least + round(-low / scale) if scale > LEAST else least
    return Affine(np.array(scale if scale > LEAST else 1, FLOAT32), np.array(zero, dtype))


# --- weights in 8 bits ------------------------------------------------------------------------------------------------
def weight_scales(w: np.ndarray, axis: int | None, most: int) -> np.ndarray:
    """float64 [channels], or a scalar: the largest magnitude of each index of the axis (of all) over the largest code, `most`. A
    channel of zeros has the scale of the largest."""
    others = tuple(i for i in range(w.ndim) if i != axis)
    largest = np.abs(w).max(others, initial=0).astype(np.float64)
    largest = np.where(largest > 0, largest, largest.max(initial=0) or 1)
    return np.maximum(largest / most, LEAST)


def symmetric_codes(w: np.ndarray, scale: np.ndarray, axis: int | None, dtype: np.dtype, most: int) -> Codes:
    """scale: [channels] of the axis, or a scalar. most: the largest code."""
    scale = scale.astype(FLOAT32)
    along = aligned(scale, w.shape, axis or 0, 0)
    values = np.clip(np.rint(w / along), -most, most).astype(np.int32).astype(dtype)
    return Codes(values, scale, np.zeros(scale.shape, dtype), axis or 0)


def bias_codes(bias: np.ndarray, scale: np.ndarray) -> Codes:
    """int32 [channels]. scale: of the input times that of the weights."""
    scale = scale.astype(FLOAT32)
    low, high = int_range(INT32)
    values = np.clip(np.rint(bias / scale.astype(np.float64)), low, high).astype(INT32)
    return Codes(values, scale, np.zeros(scale.shape, INT32), 0)


# --- weights in blocks ------------------------------------------------------------------------------------------------
def block_codes(w: np.ndarray, axis: int, block: int, dtype: np.dtype) -> Codes:
    """Codes with a scale for every block of a matrix along an axis; zero points, too, where the dtype is unsigned. Of TRIED scales
    each block has the one whose squares of errors are the least."""
    along = np.moveaxis(w, axis, 1)
    others, length = along.shape
    filled = np.pad(along.astype(FLOAT32), ((0, 0), (0, -length % block)), mode="edge").reshape(-1, block)
    parts = [_coded(filled[i : i + CHUNK], *int_range(dtype)) for i in range(0, len(filled), CHUNK)]
    values, scale, zero = (np.concatenate(arrays).reshape(others, -1) for arrays in zip(*parts))
    back = (np.ascontiguousarray(np.moveaxis(a, 1, axis)) for a in (values[:, :length], scale, zero))
    values, scale, zero = back
    return Codes(values.astype(dtype), scale, zero.astype(dtype), axis, block)


def _coded(x: np.ndarray, least: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (int8) [blocks, block] of float32, scales and zero points (int8), which are 0 for signed codes, [blocks, 1]."""
    low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
    best = np.full(low.shape, np.inf, FLOAT32)
    scale, zero = np.ones_like(low), np.zeros_like(low)
    for part in np.linspace(1, 0.7, TRIED, dtype=FLOAT32):
        tried, offset = _block_scale(low * part, high * part, least, most)
        error = x - (np.clip(np.rint(x / tried) + offset, least, most) - offset) * tried
        squares = np.einsum("ij,ij->i", error, error)[:, None]
        better = squares < best
        best, scale, zero = (
            np.where(better, new, old) for new, old in ((squares, best), (tried, scale), (offset, zero))
        )
    codes = np.clip(np.rint(x / scale) + zero, least, most)
    return codes.astype(np.int8), scale, zero.astype(np.int8)


def _block_scale(low: np.ndarray, high: np.ndarray, least: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    if least < 0:
        scale, zero = np.maximum(-low, high) / FLOAT32.type(most), np.zeros_like(low)
    else:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scale = (high - low) / FLOAT32.type(most - least)
        zero = np.rint(-low / np.where(scale > LEAST, scale, 1))
    return np.where(scale > LEAST, scale, 1).astype(FLOAT32), np.clip(zero, least, most)


def packed_pairs(values: np.ndarray) -> np.ndarray:
    """uint8 [..., ceil(n / 2)] of whole numbers from 0 to 15 [..., n]: two in a byte, the first in its lower half."""
    even = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)]).astype(np.uint8)
    return even[..., ::2] | even[..., 1::2] << 4

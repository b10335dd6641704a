"""Whole kernels in the emulator, plain and in the checking mode, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import simple_kernels as kernels
import tensor_kernels
from emulated import ArrayKernel

RNG = np.random.default_rng(0)
MODES = pytest.mark.parametrize("check", [False, True], ids=["plain", "checked"])


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def assert_close(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    assert np.abs(got.astype(np.float64) - want).max() <= tolerance * max(np.abs(want).max(), 1e-30)


@MODES
def test_product_in_tiles_of_shared_memory(check: bool):
    m, n, k = 130, 100, 75
    a, b, c = f32(m, k), f32(k, n), np.zeros((m, n), np.float32)
    ArrayKernel(kernels.sgemm, kernels.SGEMM, 256, check=check)(6, a, b, c, m, n, k)
    assert_close(c, a.astype(float) @ b, 1e-5)


@MODES
def test_softmax_with_shuffles(check: bool):
    x = f32(10, 300)
    y = np.zeros_like(x)
    ArrayKernel(kernels.softmax, kernels.SOFTMAX, 128, check=check)(3, x, y, 10, 300)
    e = np.exp(x.astype(float) - x.max(1, keepdims=True))
    assert_close(y, e / e.sum(1, keepdims=True), 1e-5)


@MODES
def test_histogram_with_atomics(check: bool):
    x = RNG.integers(0, 256, 20000 if not check else 3000).astype(np.int32)
    bins = np.zeros(256, np.int32)
    ArrayKernel(kernels.histogram, kernels.HISTOGRAM, 256, check=check)(8, x, bins, len(x))
    np.testing.assert_array_equal(bins, np.bincount(x, minlength=256))


@MODES
def test_convolution(check: bool):
    x, w, bias, y = f32(20, 14, 14), f32(24, 20, 3, 3), f32(24), np.zeros(24 * 7 * 7, np.float32)
    kernel = ArrayKernel(kernels.conv, kernels.CONV, 256, check=check)
    kernel(8, x.ravel(), w.ravel(), bias, y, 20, 14, 24, 3, 2, 1, 7)
    padded = np.pad(x.astype(float), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    want = np.maximum(np.einsum("chwrs,kcrs->khw", windows, w.astype(float)) + bias[:, None, None], 0)
    assert_close(y, want.ravel(), 1e-5)


def bf16_bits(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@MODES
@pytest.mark.parametrize(
    ("kind", "row_bytes", "tolerance"),
    [("f16", 64, 5e-4), ("f16", 128, 5e-4), ("bf16", 64, 4e-3), ("tf32", 128, 1e-3), ("tf32x3", 128, 1e-5)],
)
def test_product_on_tensor_cores(kind: str, row_bytes: int, tolerance: float, check: bool):
    made = tensor_kernels.make_product(kind, row_bytes=row_bytes)
    m, n, k = 100, 72, 192
    a, b = f32(m, k), f32(n, k)
    if kind == "f16":
        a, b = a.astype(np.float16), b.astype(np.float16)
    stored = [bf16_bits(x) if kind == "bf16" else x for x in (a, b)]
    if kind == "bf16":
        a, b = map(from_bf16, stored)
    c = np.zeros((m, n), stored[0].dtype)
    kernel = ArrayKernel(made.function, made.params, made.threads, made.shared, check)
    kernel(4, *(x.ravel() for x in stored), c.reshape(-1), m, n, k)
    assert_close(from_bf16(c) if kind == "bf16" else c, a.astype(float) @ b.T.astype(float), tolerance)


@MODES
@pytest.mark.parametrize(("kind", "columns"), [("f16", 64), ("f16", 256), ("tf32", 128)])
def test_product_by_warp_groups(kind: str, columns: int, check: bool):
    made = tensor_kernels.make_wgmma_product(kind, columns)
    dtype, k = (np.float32, 64) if kind == "tf32" else (np.float16, 128)
    a, b, c = f32(128, k).astype(dtype), f32(columns, k).astype(dtype), np.zeros((128, columns), dtype)
    kernel = ArrayKernel(made.function, made.params, made.threads, made.shared, check, arch=(9, 0, "a"))
    kernel(1, a.ravel(), b.ravel(), c.reshape(-1), k)
    assert_close(c, a.astype(float) @ b.T.astype(float), 5e-4 if kind == "f16" else 1e-3)

"""Positions of a window along one axis."""

from __future__ import annotations

from numba import njit


@njit(error_model="numpy")
def window(start, dilation, kernel, size):
    """First and one past last position of a kernel, placed at `start`, that lie inside [0, size)."""
    k0 = 0
    if start < 0:
        k0 = (-start + dilation - 1) // dilation
    k1 = kernel
    if start + (kernel - 1) * dilation >= size:
        k1 = (size - 1 - start) // dilation + 1
    k0 = min(k0, kernel)
    return k0, max(k1, k0)


@njit(error_model="numpy")
def counted(start, dilation, kernel, size, before, after, padded):
    """Positions that an average divides by: those inside [0, size) or, where `padded`, inside the padding too."""
    if not padded:
        before, after = 0, 0
    first, end = window(start + before, dilation, kernel, before + size + after)
    return end - first

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
    low, high = (-before, size + after) if padded else (0, size)
    count = 0
    for k in range(kernel):
        if low <= start + k * dilation < high:
            count += 1
    return count

"""Small unsigned numbers packed in bytes, the first in the lowest bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.graph import Builder, Value

UINT8 = np.dtype(np.uint8)


def unpacked(packed: np.ndarray, bits: int, high_first: bool = False) -> np.ndarray:
    """The numbers along the last axis, 8/bits for each byte, as uint8."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:: -1 if high_first else 1]
    parts = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return parts.reshape(*packed.shape[:-1], packed.shape[-1] * len(shifts))


def emit_unpacked(b: Builder, packed: Value, bits: int, high_first: bool = False) -> Value:
    """`unpacked` as nodes."""
    if bits == 8:
        return packed
    mask, last = b.constant(2**bits - 1, UINT8), b.constant([-1], np.int64)
    shifts = range(0, 8, bits)[:: -1 if high_first else 1]
    parts = []
    for shift in shifts:
        part = b.add("BitShift", packed, b.constant(shift, UINT8), direction="RIGHT") if shift else packed
        part = b.add("BitwiseAnd", part, mask) if shift + bits < 8 else part
        parts.append(b.add("Unsqueeze", part, last))
    *lead, bytes_ = packed.shape
    return b.add("Reshape", b.add("Concat", *parts, axis=-1), b.constant([*lead, bytes_ * len(parts)], np.int64))


def bytes_of(count: Any, bits: int) -> Any:
    """How many bytes hold so many numbers."""
    return (count * bits + 7) // 8

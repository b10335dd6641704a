"""Constants that lowering makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphc.dtypes import FLOAT32
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.lower.lowering import Lowering


def constant(lo: Lowering, data: np.ndarray) -> Storage:
    """A table that lowering makes; equal tables are kept once."""
    data = np.ascontiguousarray(data)
    buffer = lo.weights.pack((), ("table", data.dtype.str, data.tobytes()), lambda: data, "table")
    t = TensorType(data.dtype, data.shape)
    return Storage(Ref(buffer), t, dense_strides(t))


def zero(lo: Lowering, dtype: np.dtype) -> Ref:
    """Of powers of two, which have none, NaN."""
    return constant(lo, np.zeros(1).astype(dtype)).ref


def channel_vector(lo: Lowering, data: np.ndarray | None, channels: int, c: int) -> Buffer:
    """One float32 per channel, filled with zeros to whole blocks (None: all zeros)."""
    width = -(-channels // c) * c
    if data is None:
        return lo.weights.zeros(FLOAT32.item * width)
    source = data

    def make() -> np.ndarray:
        padded = np.zeros(width, FLOAT32.numpy)
        padded[:channels] = source.reshape(-1)
        return padded

    return lo.weights.pack(source, ("channels", width), make, "channels")

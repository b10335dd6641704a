"""Products on tensor cores: which ones, and where their operands lie."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cuda.codegen.widths import power_that_divides
from graphc.backends.cuda.lower.epilogue import Ending
from graphc.backends.cuda.product.matrices import Matrices
from graphc.backends.cuda.product.product_block import TensorProduct
from graphc.backends.cuda.product.tile import MULTIPROCESSORS, warp_tile_for
from graphc.graph import Value
from graphc.lower.storage import ExternBuffer, Ref, Storage
from graphc.sizes import for_speed, smallest

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

CHUNK = 16  # bytes of the widest copy
LEAST = 4  # of the narrowest
FLOATS = ("float16", "bfloat16", "float32")


def chunk_of(ref: Ref, strides: tuple[int, ...]) -> int:
    """Bytes that divide every address of an operand: CHUNK or fewer, a value. Buffers begin at multiples of it, but for arrays of the
    caller's."""
    buffer = ref.buffer
    begins = buffer.dtype.itemsize if isinstance(buffer, ExternBuffer) else CHUNK
    return power_that_divides(CHUNK, ref.offset, begins, *strides)


def aligned(lo: CudaLowering, v: Value, s: Storage, columns: bool) -> Storage:
    """A constant matrix with its columns (or rows) in pieces that begin at multiples of CHUNK."""
    item = v.dtype.itemsize
    lines, length = v.shape[::-1] if columns else v.shape
    whole = -(-length * item // CHUNK) * CHUNK

    def make() -> np.ndarray:
        out = np.zeros((lines, whole // item), v.dtype)
        out[:, :length] = v.data.T if columns else v.data
        return out

    ref = Ref(lo.weights.pack(v.data, ("lines", columns), make))
    return replace(s, ref=ref, strides=(item, whole) if columns else (whole, item))


def suits(m: Matrices, dtype: np.dtype) -> bool:
    """Is it a product for tensor cores? Not of float32 where they would not be full."""
    return dtype.name in FLOATS and (dtype.itemsize == 2 or _fills(m.m, m.n, prod(m.batch)))


@for_speed
def _fills(m: int, n: int, batch: int) -> bool:
    """Have all multiprocessors something to do?"""
    tile = warp_tile_for(m, n, batch)
    return batch * -(-m // tile.m) * -(-n // tile.n) >= MULTIPROCESSORS


def tensor_product(m: Matrices, dtype: np.dtype, ending: Ending) -> tuple[TensorProduct, dict[str, Any]] | None:
    """The kernel and the words of its own, or None where other kernels do it: also where the left operand's rows do not lie in
    one piece, or pieces begin at odd addresses."""
    item = dtype.itemsize
    if not suits(m, dtype) or m.of_left[1] != item or item not in m.of_right:
        return None
    tile = warp_tile_for(m.m, m.n, prod(m.batch))
    tiles_m, tiles_n = -(-m.m // tile.m), -(-m.n // tile.n)
    across = m.of_right[1] == item
    lines = m.of_left[0], m.of_right[0 if across else 1]
    left, right = chunk_of(m.left, (lines[0], *m.left_batch)), chunk_of(m.right, (lines[1], *m.right_batch))
    if smallest(left, right) < LEAST:
        return None
    words = {
        "grid": tiles_m * tiles_n * prod(m.batch), "tiles_m": tiles_m, "tiles_n": tiles_n,
        "left_line": lines[0], "right_line": lines[1],
    }  # fmt: skip
    return TensorProduct(dtype.name, tile, left, right, across, ending.expression, ending.dtypes), words

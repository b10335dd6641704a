"""Blocks of weights that are zero: the least of them, by their mean square.

The weights of a layer are a matrix with a row for each output channel. A block of 1x16 is 16 neighbours of a row, one of 16x1 the same
input of 16 neighbouring channels, one of 1x1 a single weight
(S. Han, J. Pool, J. Tran and W. J. Dally, "Learning both weights and connections for efficient neural networks", NeurIPS 2015).
Kernels of products leave blocks of 16x1 out (backends/cpu/product/block_sparse.py); convolutions lose less by those of 1x16.
In an ONNX file zeros take as much as other numbers; `packed` leaves them out: a bit for each block, and the numbers of the others.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from graphc.errors import InputError
from graphc.graph import Graph
from graphc.shrinker.channels import require_part
from graphc.shrinker.layers import rows, unrows
from graphc.shrinker.report import LayerReport
from graphc.shrinker.storage import Stored, stored

Block = tuple[int, int]
OF_PRODUCTS, OF_CONVOLUTIONS = (16, 1), (1, 16)


@dataclass(frozen=True)
class Sparse:
    """Sets this part of the blocks of every layer to zero (0.5: half of them, rounded down). block: rows and columns, or '16x1'; by
    default OF_PRODUCTS, and of convolutions OF_CONVOLUTIONS.

    Raises InputError for values that make no sense.
    """

    part: float
    block: Block | str | None = None

    def __post_init__(self) -> None:
        require_part("sparse", self.part)
        if self.block is not None:
            object.__setattr__(self, "block", block_of(self.block))

    def __str__(self) -> str:
        every = {_text(OF_PRODUCTS): "", _text(OF_CONVOLUTIONS): " (of convolutions)"}
        blocks = " and ".join(a + b for a, b in every.items()) if self.block is None else _text(block_of(self.block))
        return f"{100 * self.part:g} % of the weights' blocks of {blocks} set to zero"

    def __call__(self, graph: Graph, keep: Collection[str]) -> tuple[Graph, tuple[LayerReport, ...]]:
        return stored(graph, keep, self._form)

    def _form(self, w: np.ndarray, axis: int) -> Stored:
        block = block_of(self.block or (OF_PRODUCTS if w.ndim == 2 else OF_CONVOLUTIONS))
        matrix = rows(w, axis)
        sparse, zero, blocks = pruned(matrix, self.part, block)
        floats = unrows(sparse, w.shape, axis)
        size = w.size * w.dtype.itemsize
        made = f"{zero} of {blocks} blocks zero"
        return Stored(
            floats, made, size, len(packed(sparse, block)), lambda b, stem: b.weights(floats, f"{stem}_sparse")
        )


def _text(block: Block) -> str:
    return "x".join(map(str, block))


def block_of(block: object) -> Block:
    """(16, 1), of the same or of '16x1'. Raises InputError."""
    text = re.fullmatch(r"(\d+)x(\d+)", block) if isinstance(block, str) else None
    sizes = tuple(map(int, text.groups())) if text else block
    if not isinstance(sizes, (tuple, list)) or len(sizes) != 2 or not all(type(n) is int and n > 0 for n in sizes):
        raise InputError(f"a block has rows and columns, from 1 on, not {block!r}", hint="16x1, or 16x16")
    return sizes[0], sizes[1]


def pruned(matrix: np.ndarray, part: float, block: Block) -> tuple[np.ndarray, int, int]:
    """The matrix with this part of its blocks zero, those with the least mean square; how many are; of how many. Blocks at its ends are
    smaller where it is no multiple of them."""
    means = _sums(matrix.astype(np.float64) ** 2, block) / _sums(np.ones(matrix.shape), block)
    count = int(part * means.size)
    mask = np.ones(means.size, bool)
    mask[np.argsort(means, axis=None, kind="stable")[:count]] = False
    return np.where(_spread(mask.reshape(means.shape), matrix.shape, block), matrix, 0), count, means.size


def packed(matrix: np.ndarray, block: Block) -> bytes:
    """A bit for each block that is not zero, and the numbers of these, row by row."""
    used = _sums(matrix != 0, block) > 0
    return np.packbits(used).tobytes() + matrix[_spread(used, matrix.shape, block)].tobytes()


def unpacked(data: bytes, shape: tuple[int, int], dtype: np.dtype, block: Block) -> np.ndarray:
    """The matrix that `packed` has made data of. Raises InputError where it has not."""
    blocks = tuple(-(-n // size) for n, size in zip(shape, block))
    count = blocks[0] * blocks[1]
    head = -(-count // 8)
    if len(data) < head:
        raise InputError("the data end before the bits of the blocks do")
    bits = np.unpackbits(np.frombuffer(data[:head], np.uint8))[:count].astype(bool)
    mask = _spread(bits.reshape(blocks), shape, block)
    if len(data) - head != np.count_nonzero(mask) * np.dtype(dtype).itemsize:
        raise InputError(f"the data are not those of a matrix of {shape[0]}x{shape[1]}")
    matrix = np.zeros(shape, dtype)
    matrix[mask] = np.frombuffer(data[head:], dtype)
    return matrix


def _sums(matrix: np.ndarray, block: Block) -> np.ndarray:
    """Of each block, [blocks down, blocks across]."""
    down = np.add.reduceat(matrix, np.arange(0, matrix.shape[0], block[0]), axis=0, dtype=np.float64)
    return np.add.reduceat(down, np.arange(0, matrix.shape[1], block[1]), axis=1)


def _spread(mask: np.ndarray, shape: tuple[int, ...], block: Block) -> np.ndarray:
    return mask.repeat(block[0], 0).repeat(block[1], 1)[: shape[0], : shape[1]]

"""The sizes and strides of a matrix product, with transpositions, batch dims and vectors as strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.graph import Node
from graphc.lower.storage import Storage
from graphc.types import broadcast, numbers


@dataclass(frozen=True)
class Product:
    """y[batch, m, n] = a[batch, m, k] b[batch, k, n] with byte strides; batch dims innermost first. k: reduction steps, of an
    inner step that multiplies several elements one for all of them."""

    m: int
    n: int
    k: int
    a: tuple[int, int]  # strides of row, column
    b: tuple[int, int]
    y_row: int
    batch: tuple[int, ...]
    a_batch: tuple[int, ...]
    b_batch: tuple[int, ...]
    y_batch: tuple[int, ...]


def product_of(node: Node, a: Storage, b: Storage, y: Storage) -> Product:
    """Sizes and strides, with Gemm's transpositions and MatMul's batch dims and vectors as strides."""
    (am, an), (ab, a_shape) = _matrix(a, row=True)
    (bm, bn), (bb, b_shape) = _matrix(b, row=False)
    m, k = a_shape[-2:]
    n = b_shape[-1]
    if node.op.name == "Gemm":
        if node.attrs["transA"]:
            m, k, am, an = k, m, an, am
        if node.attrs["transB"]:
            n, bm, bn = b_shape[-2], bn, bm
    batch = numbers(broadcast(a_shape[:-2], b_shape[:-2]))
    item = y.type.dtype.itemsize
    y_row = n * item
    y_batch, step = [], m * y_row
    for d in reversed(batch):
        y_batch.append(step)
        step *= d

    def pad(values: Sequence[int], fill: int) -> tuple[int, ...]:
        return (*values, *(fill,) * (BATCH_DIMS - len(values)))

    def walk(shape: Sequence[int], strides: Sequence[int]) -> list[int]:
        return [0] * (len(batch) - len(shape)) + [0 if d == 1 else s for d, s in zip(shape, strides)]

    dims = pad(tuple(reversed(batch)), 1)
    a_batch = pad(tuple(reversed(walk(a_shape[:-2], ab))), 0)
    b_batch = pad(tuple(reversed(walk(b_shape[:-2], bb))), 0)
    product = Product(m, n, k, (am, an), (bm, bn), y_row, dims, a_batch, b_batch, pad(tuple(y_batch), 0))
    return _batch_as_rows(product, batch)


def _matrix(s: Storage, row: bool) -> tuple[tuple[int, int], tuple[tuple[int, ...], tuple[int, ...]]]:
    """((row stride, column stride), (batch strides, shape)) with a vector as one row or one column."""
    shape, strides = s.type.extents, s.strides
    if len(shape) == 1:
        shape, strides = ((1, *shape), (0, *strides)) if row else ((*shape, 1), (*strides, 0))
    return (strides[-2], strides[-1]), (strides[:-2], shape)


def _batch_as_rows(p: Product, batch: Sequence[int]) -> Product:
    """Batched rows against one matrix are rows of one product, where they follow each other in memory."""
    if any(p.b_batch) or not batch:
        return p
    total, row = p.m, p.a[0]
    for d, a, y in zip(p.batch, p.a_batch, p.y_batch):
        if d == 1:
            continue
        if a != total * row or y != total * p.y_row:
            return p
        total *= d
    ones, zeros = (1,) * BATCH_DIMS, (0,) * BATCH_DIMS
    return Product(total, p.n, p.k, p.a, p.b, p.y_row, ones, zeros, zeros, zeros)

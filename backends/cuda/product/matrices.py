"""The sizes and strides of a matrix product: transpositions, batch dims and vectors are strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc.backends.cuda.lower.epilogue import Walked
from graphc.backends.cuda.product.product_block import BATCH
from graphc.graph import Node
from graphc.lower.storage import Ref, Storage
from graphc.lower.strides import collapse
from graphc.types import broadcast, numbers


@dataclass(frozen=True)
class Result:
    """The result, or an operand of the ending: byte strides of a column, a row, the batch dims."""

    ref: Ref
    column: int
    row: int
    batch: tuple[int, ...]


@dataclass(frozen=True)
class Matrices:
    """y[batch, m, n] = left[batch, m, k] right[batch, k, n]; strides in bytes of (row, column), batch dims outermost first."""

    m: int
    n: int
    k: int
    left: Ref
    right: Ref
    of_left: tuple[int, int]
    of_right: tuple[int, int]
    batch: tuple[int, ...]
    left_batch: tuple[int, ...]
    right_batch: tuple[int, ...]
    results: tuple[Result, ...]

    def part(self, i: int) -> Matrices:
        """Number i of the outermost batch dim."""
        results = tuple(replace(r, ref=r.ref + i * r.batch[0], batch=r.batch[1:]) for r in self.results)
        return replace(
            self, left=self.left + i * self.left_batch[0], right=self.right + i * self.right_batch[0], results=results,
            batch=self.batch[1:], left_batch=self.left_batch[1:], right_batch=self.right_batch[1:],
        )  # fmt: skip

    def turned(self) -> Matrices:
        """The same as the product of the transposed matrices."""
        results = tuple(replace(r, row=r.column, column=r.row) for r in self.results)
        return replace(
            self, m=self.n, n=self.m, left=self.right, right=self.left, of_left=self.of_right[::-1], results=results,
            of_right=self.of_left[::-1], left_batch=self.right_batch, right_batch=self.left_batch,
        )  # fmt: skip


def matrices_of(node: Node, a: Storage, b: Storage, walked: Sequence[Walked]) -> Matrices:
    """Of a MatMul or Gemm. walked: the result and what the ending reads, along the dims of the result."""
    (a_shape, a_strides), (b_shape, b_strides) = _matrix(a, row=True), _matrix(b, row=False)
    if node.attrs.get("transA"):
        a_shape, a_strides = a_shape[::-1], a_strides[::-1]
    if node.attrs.get("transB"):
        b_shape, b_strides = b_shape[::-1], b_strides[::-1]
    batch = numbers(broadcast(a_shape[:-2], b_shape[:-2]))
    has_row, has_column = a.type.rank > 1, b.type.rank > 1
    results = [_with_dims(w.strides, len(batch), has_row, has_column) for w in walked]
    (m, k), n = a_shape[-2:], b_shape[-1]
    # rows are one more loop: batched rows against one matrix are rows of one product, where they follow each other
    walks = [
        [*_along(batch, a_shape, a_strides), a_strides[-2]],
        [*_along(batch, b_shape, b_strides), 0],
        *([*r[:-2], r[-2]] for r in results),
    ]
    dims, walks = collapse([*batch, m], walks)
    if walks[1][-1] != 0:  # the last loop that is left is of matrices: of one row each
        dims, walks = [*dims, 1], [[*w, 0] for w in walks]
    left, right, *others = walks
    return Matrices(
        dims[-1], n, k, a.ref, b.ref, (left[-1], a_strides[-1]), (b_strides[-2], b_strides[-1]),
        tuple(dims[:-1]), tuple(left[:-1]), tuple(right[:-1]),
        tuple(Result(w.ref, r[-1], o[-1], tuple(o[:-1])) for w, r, o in zip(walked, results, others)),
    )  # fmt: skip


def words_of(m: Matrices) -> dict[str, Any]:
    """Words that all blocks of products have."""
    results = [
        {"ref": r.ref, "columns": (r.column, 0, 0), "row": r.row, "batch": padded(r.batch, 0)} for r in m.results
    ]
    words = {"m": m.m, "n": m.n, "k": m.k, "left": m.left, "right": m.right, "dims": padded(m.batch, 1)}
    batches = {"left_batch": padded(m.left_batch, 0), "right_batch": padded(m.right_batch, 0)}
    return words | batches | {"records": results}


def padded(values: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """Innermost first, as many as blocks have."""
    return (*values[::-1], *(fill,) * (BATCH - len(values)))


def _matrix(s: Storage, row: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides, with a vector as one row or one column."""
    shape, strides = s.type.extents, s.strides
    if len(shape) == 1:
        return ((1, *shape), (0, *strides)) if row else ((*shape, 1), (*strides, 0))
    return tuple(shape), tuple(strides)


def _along(batch: Sequence[int], shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    own = [0 if d == 1 else s for d, s in zip(shape[:-2], strides[:-2])]
    return [0] * (len(batch) - len(own)) + own


def _with_dims(strides: Sequence[int], batch: int, row: bool, column: bool) -> list[int]:
    """Strides of the batch dims, of rows and of columns, from those of a result that may lack the last two."""
    left = list(strides[batch:])
    return [*strides[:batch], left.pop(0) if row else 0, left.pop(0) if column else 0]

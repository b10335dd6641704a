"""How the operands of a product come to tensor cores: as they lie, or copied first.

They read the left operand along rows, the right one along columns or rows, in pieces of CHUNK bytes or a few. What lies otherwise
is copied, where the model of costs says that it pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cuda.product.costs import Choice, copied
from graphc.backends.cuda.product.matrices import Matrices
from graphc.backends.cuda.product.tensor import CHUNK, LEAST, Operands, choices_of, chunk_of, told
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo
from graphc.sizes import hint_of, is_size

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

PIECE = "one piece, for tensor cores"


@dataclass(frozen=True)
class Feeding:
    """left, right: is that operand copied? choice: of the product behind."""

    left: bool
    right: bool
    choice: Choice


def feedings_of(lo: CudaLowering, m: Matrices, dtype: np.dtype) -> list[Feeding | None]:
    """The model's choice, then others; None for that of CUDA cores."""
    item = dtype.itemsize
    left = m.of_left[1] != item or left_chunk(m) < LEAST
    right = item not in m.of_right or right_chunk(m, item) < LEAST
    choices = choices_of(lo, m, dtype, seconds_of(lo, m, item, left, right))
    return [Feeding(left, right, c) if c else None for c in choices]


def seconds_of(lo: CudaLowering, m: Matrices, item: int, left: bool, right: bool) -> float:
    """What the copies of the operands take."""
    shapes = [(m.m, m.left_batch)] * left + [(m.n, m.right_batch)] * right
    counts = (hint_of(lines) * hint_of(m.k) * prod(hint_of(m.batch[i]) for i in _kept(by)) for lines, by in shapes)
    return sum(copied(lo.card, item * count) for count in counts)


def fed(lo: CudaLowering, m: Matrices, item: int, f: Feeding, info: StepInfo) -> tuple[Matrices, Operands, StepInfo]:
    """The operands where tensor cores read them, after the steps that copy."""
    across, done = _across(m, item) and not f.right, []
    of_left, of_right = CHUNK if f.left else left_chunk(m), CHUNK if f.right else right_chunk(m, item)
    if f.left:
        ref, line, batch = _copy(lo, m, m.left, m.m, m.of_left, m.left_batch, item, "left", f"rows in {PIECE}", info)
        m = replace(m, left=ref, of_left=(line, item), left_batch=batch)
        done.append("left")
    if f.right:
        by = m.of_right[::-1]
        ref, line, batch = _copy(lo, m, m.right, m.n, by, m.right_batch, item, "right", f"columns in {PIECE}", info)
        m = replace(m, right=ref, of_right=(item, line), right_batch=batch)
        done.append("right")
    if done:
        operands = "both operands" if len(done) > 1 else f"{done[0]} operand"
        info = told(info, f"{operands} copied first")
    return m, Operands(of_left, of_right, across, (m.of_left[0], m.of_right[0 if across else 1])), info


def left_chunk(m: Matrices) -> int:
    return chunk_of(m.left, (m.of_left[0], *m.left_batch))


def right_chunk(m: Matrices, item: int) -> int:
    return chunk_of(m.right, (m.of_right[0 if _across(m, item) else 1], *m.right_batch))


def _across(m: Matrices, item: int) -> bool:
    """Do the rows of the right operand lie in one piece?"""
    return m.of_right[1] == item


def _kept(strides: Sequence[int]) -> list[int]:
    """Batch dims along which an operand has matrices of its own."""
    return [i for i, s in enumerate(strides) if is_size(s) or s != 0]


def _copy(
    lo: CudaLowering, m: Matrices, x: Ref, lines: int, strides: tuple[int, int], batch: tuple[int, ...], item: int,
    side: str, reason: str, info: StepInfo,
) -> tuple[Ref, int, tuple[int, ...]]:  # fmt: skip
    """A copy of lines of m.k elements, each in one piece at a multiple of CHUNK bytes: where it is, the bytes of a line, and of
    each batch dim. strides: from a line to the next, and along it."""
    line = -(-m.k * item // CHUNK) * CHUNK
    kept, matrix = _kept(batch), lines * line
    steps = {i: matrix * prod(m.batch[j] for j in kept if j > i) for i in kept}
    dims = [*(m.batch[i] for i in kept), lines, m.k]
    count = prod(m.batch[i] for i in kept)
    to = Ref(Buffer(f"{info.output}/{side}", count * matrix))
    step = StepInfo(0, info.nodes, ("Copy",), "copy_strided", "", reason, to.buffer.name, 0, 2 * item * prod(dims))
    xs, ys = [*(batch[i] for i in kept), *strides], [*(steps[i] for i in kept), line, item]
    lo.copy(x, xs, to, ys, dims, item, step)
    return to, line, tuple(steps.get(i, 0) for i in range(len(batch)))

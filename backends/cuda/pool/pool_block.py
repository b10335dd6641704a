"""Pools: an element of the result per thread.

in: of the image; out: of the result; k, d, s: size, dilations and strides of the window; p: positions that the first window
begins before the image; x: byte strides of the image. low, high: an average counts positions from `low` to below `high`. power:
of a norm. indices: address of the positions of maxima, and how far apart the planes, rows and columns of an image are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cuda.product.product_block import RECORD
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

POOL = Block(
    "grid total channels pixels x x_n x_c in_d in_h in_w out_h out_w k_d k_h k_w d_d d_h d_w s_d s_h s_w p_d p_h p_w x_d x_h x_w "
    "low_d low_h low_w high_d high_h high_w power indices step_d step_h step_w plane",
    record=RECORD,
)


@dataclass(frozen=True, eq=False)
class Pool(Kernel, name="pool"):
    """op: 'max' (NaN wins), 'average', 'power' (the sum of powers). indices: are the positions of maxima wanted, too? run,
    wide: as of `TensorConv`.
    expression: see `Ending`; operands: the dtypes that it reads after the result of the window."""

    block: ClassVar[Block] = POOL
    op: str
    dtype: str
    indices: bool
    deep: bool
    run: int
    wide: tuple[bool, ...]
    expression: Expr
    operands: tuple[str, ...]

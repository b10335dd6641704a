"""Passes along rows and down columns, and weighted sums along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel, Passes
from graphc.lower.limits import PASS_DIMS

# total: rows or columns. length: elements of one. n: elements of a segment of a row; neighbouring columns. shift: so many bits
# of a thread's number are its place in a row, or its column in a block. dims: innermost first. A record per operand and output:
# its address (or the count), its byte step, byte strides along the loops, innermost first
PASSES = Block(f"grid total length n shift dims*{PASS_DIMS}", record=f"ref step strides*{PASS_DIMS}")
# x[outer, size, inner] to y[outer, n, inner], `total` elements. x_bytes: from one outer index to the next. offsets, weights:
# [n, taps], int64 bytes from an outer index on, and numbers of the dtype of the sum
BLEND = Block("grid total x y n inner x_bytes taps offsets weights")


@dataclass(frozen=True, eq=False)
class RowPasses(Kernel, Passes, name="row_passes"):
    """Passes along rows; neighbouring threads share one. loops: how many there are around them. segments: may a row have
    several? threads: of a block."""

    block: ClassVar[Block] = PASSES
    loops: int
    segments: bool
    threads: int


@dataclass(frozen=True, eq=False)
class ColumnPasses(Kernel, Passes, name="column_passes"):
    """Passes down columns; neighbouring threads have neighbouring columns."""

    block: ClassVar[Block] = PASSES
    loops: int


@dataclass(frozen=True, eq=False)
class BlendAxis(Kernel, name="blend"):
    """Weighted sums: a result per thread. dtype: of the elements."""

    block: ClassVar[Block] = BLEND
    dtype: str
    term: Expr
    finish: Expr

"""verbs/blend_driver.py.

x_bytes: from one outer index to the next. offsets, weights: [out, taps] byte offsets of rows and float64 weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

BLEND_AXIS = Block("x y outer x_bytes out inner row_bytes taps offsets weights micro scratch scratch_stride")


class BlendAxis(Kernel, name="blend_axis"):
    """Weighted sums along an axis, row by row."""

    block: ClassVar[Block] = BLEND_AXIS


@dataclass(frozen=True, eq=False)
class BlendRows(Kernel, name="blend_rows"):
    """A weighted sum of rows."""

    term: Expr
    finish: Expr


@dataclass(frozen=True, eq=False)
class BlendElements(Kernel, name="blend_elements"):
    """Weighted sums of a row's elements."""

    term: Expr
    finish: Expr

"""verbs/passes_driver.py.

dims: outer extents, innermost first. m_chunk, n_chunk: elements of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel, Pass, Passes
from graphc.lower.limits import PASS_DIMS

PASSES = Block(
    f"micro operands scratch stride m m_chunk n n_chunk dims*{PASS_DIMS}",
    # step: passed on. m_bytes, n_bytes: from one chunk of m or n to the next
    record=f"ref step m_bytes n_bytes strides*{PASS_DIMS}",
)


class RunPasses(Kernel, name="passes"):
    """A micro-kernel along rows or down columns, by chunks."""

    block: ClassVar[Block] = PASSES


@dataclass(frozen=True, eq=False)
class RowPasses(Kernel, Passes, name="row_passes"):
    """Passes along a row."""


@dataclass(frozen=True, eq=False)
class ColumnPasses(Kernel, Passes, name="column_passes"):
    """Passes down neighbouring columns."""


@dataclass(frozen=True, eq=False)
class ManyRows(Kernel, name="many_rows"):
    """One pass over each of several rows."""

    dtypes: tuple[str, ...]
    reduction: Pass
    output: Expr
    short: bool

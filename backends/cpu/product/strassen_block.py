"""product/strassen_driver.py. Strides in bytes.

Left factors lie as [image and block][factor] with these strides: `operand` from factor to factor, `tile` from one tile of
rows to the next (where tiles have memory of their own), `row` from row to row (where they share it), `step` from one vector
of reduction steps to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# middle, sum, edge_middle, edge_sum: kernels of a sum's middle and end; edge: of the last column tile. a: where the left
# operand is, if the factors that are its quarters are not among those at `factor`, else 0; a_step: from one vector of
# reduction steps to the next. y has lines of y_width rows. blocks: of rows, of an image. Of half the columns: tiles, of nv
# vectors, the last one of last_nv, and vectors. steps: vectors of half the reduction. lines: cache lines of the next panel
# that are fetched with each of them.
STRASSEN = Block(
    "middle sum edge_middle edge_sum a a_image a_row a_step factor operand tile row step b bias y y_image y_line y_row "
    "y_vector y_width zeros m images blocks tiles steps vectors mr nv last_nv tiles_per_unit lines scratch scratch_stride "
    "lo hi epilogue_operands",
    record="ref image row vector",  # an operand of the epilogue: strides of an image, a row, a vector of columns
)
# a has lines of a_width rows. block: bytes of the factors of a block of rows. at_once: rows of a call of micro, which is
# `strassen_rows`: all mr of a tile, or one.
STRASSEN_FACTORS = Block(
    "a to images m blocks steps mr a_image a_line a_row a_step a_width operand tile row step block at_once micro"
)


class Strassen(Kernel, name="strassen"):
    """A matrix product with an eighth fewer multiplications."""

    block: ClassVar[Block] = STRASSEN


class StrassenFactors(Kernel, name="strassen_factors"):
    """Sums of the left operand's quarters, packed."""

    block: ClassVar[Block] = STRASSEN_FACTORS


@dataclass(frozen=True, eq=False)
class StrassenRows(Kernel, name="strassen_rows"):
    """Rows of `strassen_factors`."""

    copies: bool

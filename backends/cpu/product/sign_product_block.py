"""product/sign_product_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# m rows of k numbers to rows of planes, each of whole words
SIGN_ROWS = Block("x to m k kernel x_row to_row plane")


class SignRows(Kernel, name="sign_rows"):
    """Rows of floats to rows of bits."""

    block: ClassVar[Block] = SIGN_ROWS


@dataclass(frozen=True, eq=False)
class SignRow(Kernel, name="sign_row"):
    """One of them. zeros: two planes, else one; copies: of each, one behind the other."""

    block: ClassVar[Block] = SIGN_ROWS
    zeros: bool
    copies: int

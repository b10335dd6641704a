"""sampling/fold_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y[planes, *image] of x[planes, *block, *count], of `item` bytes: float32 or float64. micro: `map_row` that adds two rows; its
# operands: of each thread, `apart` bytes apart. A record per axis
FOLD = Block("x y planes rank item micro operands apart", record="image block count dilation pad stride")


class Fold(Kernel, name="fold"):
    """Blocks of pixels, added up where they come from."""

    block: ClassVar[Block] = FOLD

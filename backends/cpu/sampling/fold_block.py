"""sampling/fold_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y[planes, *image] of x[planes, *block, *count], of `item` bytes: float32 or float64. A record per axis
FOLD = Block("x y planes rank item", record="image block count dilation pad stride")


class Fold(Kernel, name="fold"):
    """Blocks of pixels, added up where they come from."""

    block: ClassVar[Block] = FOLD

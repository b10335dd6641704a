"""linalg/det_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y[count] of x[count, n, n], of `item` bytes: float32 or float64. scratch: of each thread, `stride` bytes apart, n * n float64
DETERMINANTS = Block("x y count n item scratch stride")


class Determinants(Kernel, name="determinants"):
    """Determinants of matrices."""

    block: ClassVar[Block] = DETERMINANTS

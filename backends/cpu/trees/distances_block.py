"""trees/distances_driver.py and trees/distances_micro.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y[n, count] of x[n, features] and vectors[features, count]; micro: a DistanceRow
DISTANCES = Block("x vectors y n features count micro")


class Distances(Kernel, name="distances"):
    block: ClassVar[Block] = DISTANCES


class DistanceRow(Kernel, name="distance_row"):
    """void(x, vectors, y, features, count): of one sample."""

"""trees/trees_driver.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

LANES, NARROW_BYTES, WIDE_BYTES = 8, 8, 24  # of graphc/ops/ml/packed.py
# y[n, outputs] of x[n, features]; packed forests: graphc/ops/ml/packed.py. used: numbers in `slots`; leaves: 0 where trees have one
# output each. rows: memory of each thread, `stride` bytes apart, for `tile` samples
TREES = Block("x y n features slots used nodes trees count leaves outputs rows stride tile")


@dataclass(frozen=True, eq=False)
class Trees(Kernel, name="trees"):
    """wide: of nodes of doubles, else narrow ones. table: leaves are rows of numbers. join: SUM, MIN or MAX. double: results."""

    wide: bool
    table: bool
    join: str
    double: bool
    block: ClassVar[Block] = TREES

"""Samples that walk through decision trees: a sample per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# graphc/ops/ml/packed.py: numbers in a slot; of a node of each kind, its bytes, and where its slot and what leads on from it are
LANES, NARROW, WIDE = 8, (8, 4, 6), (24, 8, 12)
# y[n, outputs] of x[n, features]; packed forests: graphc/ops/ml/packed.py. leaves: 0 where trees have one output each
TREES = Block("grid n x y features slots nodes trees count leaves outputs")


@dataclass(frozen=True, eq=False)
class Trees(Kernel, name="trees"):
    """wide: of nodes of doubles, else narrow ones. table: leaves are rows of numbers. join: SUM, MIN or MAX. double: results."""

    block: ClassVar[Block] = TREES
    wide: bool
    table: bool
    join: str
    double: bool

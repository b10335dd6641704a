"""A seed: one thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y: where the seed goes, uint64; salt: a number of the step's own
SEED = Block("grid y salt")


@dataclass(frozen=True, eq=False)
class Seed(Kernel, name="seed"):
    """Another number in each run."""

    block: ClassVar[Block] = SEED

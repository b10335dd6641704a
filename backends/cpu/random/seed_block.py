"""random/seed_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y: where the seed goes, uint64; salt: a number of the step's own
SEED = Block("y salt")


class Seed(Kernel, name="seed"):
    """Another number in each run."""

    block: ClassVar[Block] = SEED

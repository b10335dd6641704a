"""trees/tables_driver.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y[n] = values[the place of x[n] in the sorted keys], values[size] where it is none; item: bytes of a value
LOOK_UP = Block("x y n keys size values item")
# y[n, classes] of pairs[n, classes (classes - 1) / 2]; of each thread, `stride` bytes apart: memory for two matrices and a row
COUPLE = Block("pairs y n classes memory stride")


@dataclass(frozen=True, eq=False)
class LookUp(Kernel, name="look_up"):
    """key: a dtype's name."""

    key: str
    block: ClassVar[Block] = LOOK_UP


@dataclass(frozen=True, eq=False)
class Couple(Kernel, name="couple"):
    """tiny, near, rounds: graphc/ops/ml/coupling.py."""

    tiny: float
    near: float
    rounds: int
    block: ClassVar[Block] = COUPLE

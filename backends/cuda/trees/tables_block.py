"""Numbers in sorted tables, squared distances, probabilities of classes: a result, or a sample, per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y[n] = values[the place of x[n] in the sorted keys], values[size] where it is none
LOOK_UP = Block("grid n x y keys size values")
# y[n, count] of x[n, features] and vectors[features, count]; total: n * count
DISTANCES = Block("grid total x vectors y features count")
# y[n, classes] of pairs[n, classes (classes - 1) / 2]; of each of `threads`, `stride` bytes apart: memory for two matrices and a row
COUPLE = Block("grid n pairs y classes memory stride threads")


@dataclass(frozen=True, eq=False)
class LookUp(Kernel, name="look_up"):
    """key: a dtype's name. item: bytes of a value."""

    block: ClassVar[Block] = LOOK_UP
    key: str
    item: int


@dataclass(frozen=True, eq=False)
class Distances(Kernel, name="distances"):
    """dtype: of all."""

    block: ClassVar[Block] = DISTANCES
    dtype: str


@dataclass(frozen=True, eq=False)
class Couple(Kernel, name="couple"):
    """tiny, near, rounds: graphc/ops/ml/coupling.py."""

    block: ClassVar[Block] = COUPLE
    tiny: float
    near: float
    rounds: int

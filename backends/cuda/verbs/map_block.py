"""An expression over loops: an element per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

MOST_DIMS = 8  # loops of one launch
# dims: innermost first; a record per operand, the result's first: its address, byte strides along the loops, innermost first
MAP = Block(f"grid total dims*{MOST_DIMS}", record=f"ref strides*{MOST_DIMS}")


@dataclass(frozen=True, eq=False)
class MapElements(Kernel, name="map"):
    """dtypes: of the result and the operands. loops: how many there are."""

    block: ClassVar[Block] = MAP
    expression: Expr
    dtypes: tuple[str, ...]
    loops: int

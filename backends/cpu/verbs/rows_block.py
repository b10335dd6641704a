"""verbs/rows_driver.py.

scratch: each thread's table of addresses, `stride` bytes apart. dims: outer extents, innermost first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cpu.sizes import ROW_DIMS
from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

MAP_ROWS = Block(
    f"micro operands length chunk scratch stride dims*{ROW_DIMS}",
    record=f"ref along strides*{ROW_DIMS}",  # along: bytes per element along the row, 0 where there is one for the row
)


class MapRows(Kernel, name="map_rows"):
    """An elementwise step, row by row."""

    block: ClassVar[Block] = MAP_ROWS


@dataclass(frozen=True, eq=False)
class MapRow(Kernel, name="map_row"):
    """An expression over a row: see verbs/rows_micro.py."""

    expression: Expr
    kinds: str
    dtypes: tuple[str, ...]

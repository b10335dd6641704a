"""verbs/rows_driver.py.

scratch: each thread's table of addresses, `stride` bytes apart. dims: outer extents, innermost first.
"""

from __future__ import annotations

from graphc.backends.cpu.block import Block
from graphc.backends.cpu.sizes import ROW_DIMS

MAP_ROWS = Block(
    f"micro operands length chunk scratch stride dims*{ROW_DIMS}",
    record=f"ref along strides*{ROW_DIMS}",  # along: bytes per element along the row, 0 where there is one for the row
)

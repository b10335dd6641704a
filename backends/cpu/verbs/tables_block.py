"""verbs/tables_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.backends.cpu.sizes import TABLE_DIMS
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# table: byte offsets of the n elements of a row, of `item` bytes, -1 for the fill; those in [run, run_end) are neighbours.
# dims: outer extents, innermost first; tables: addresses of their tables, or 0
COPY_TABLES = Block(f"x y fill item n table run run_end dims*{TABLE_DIMS} tables*{TABLE_DIMS}")


class CopyTables(Kernel, name="copy_tables"):
    """A copy through tables of offsets."""

    block: ClassVar[Block] = COPY_TABLES

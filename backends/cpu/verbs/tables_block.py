"""verbs/tables_driver.py."""

from __future__ import annotations

from graphc.backends.cpu.block import Block
from graphc.backends.cpu.sizes import TABLE_DIMS

# table: byte offsets of the n elements of a row, of `item` bytes, -1 for the fill; those in [run, run_end) are neighbours.
# dims: outer extents, innermost first; tables: addresses of their tables, or 0
COPY_TABLES = Block(f"x y fill item n table run run_end dims*{TABLE_DIMS} tables*{TABLE_DIMS}")

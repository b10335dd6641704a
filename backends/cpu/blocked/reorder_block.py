"""blocked/reorder_driver.py. Strides in bytes."""

from __future__ import annotations

from graphc.backends.cpu.block import Block

# left, right: bytes at the ends of a row that are cleared
CLEAR_HALO = Block("y n n_stride blocks block_stride rows row left right")
# dense [n, channels, rows, width] and blocks of c channels, in either direction; the strides are those of the blocked side
REORDER = Block("x y n channels c rows width n_stride block_stride row_stride micro")

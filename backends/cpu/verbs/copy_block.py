"""verbs/copy_driver.py. Strides in bytes; outer loops: `dims` extents, innermost first, with their strides of x and of y."""

from __future__ import annotations

from graphc.backends.cpu.block import Block
from graphc.backends.cpu.sizes import COPY_DIMS

_OUTER = f"dims*{COPY_DIMS} x_strides*{COPY_DIMS} y_strides*{COPY_DIMS}"
# the innermost loop: length elements of `item` bytes, x_step and y_step bytes apart
COPY_STRIDED = Block(f"x y item length x_step y_step {_OUTER}")
# the last two loops, as tiles of tile x tile elements: x[column + row * x_row] -> y[row + column * y_column]. micro:
# `transpose_panel`
TRANSPOSE_TILES = Block(f"x y micro tile item rows columns x_row y_column {_OUTER}")

"""verbs/copy_driver.py. Strides in bytes; outer loops: `dims` extents, innermost first, with their strides of x and of y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.backends.cpu.sizes import COPY_DIMS
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

_OUTER = f"dims*{COPY_DIMS} x_strides*{COPY_DIMS} y_strides*{COPY_DIMS}"
# the innermost loop: length elements of `item` bytes, x_step and y_step bytes apart
COPY_STRIDED = Block(f"x y item length x_step y_step {_OUTER}")
# the last two loops, as tiles of tile x tile elements: x[column + row * x_row] -> y[row + column * y_column]. micro:
# `transpose_panel`
TRANSPOSE_TILES = Block(f"x y micro tile item rows columns x_row y_column {_OUTER}")


class CopyStrided(Kernel, name="copy_strided"):
    """A copy between strides."""

    block: ClassVar[Block] = COPY_STRIDED


class TransposeTiles(Kernel, name="transpose_tiles"):
    """A copy that transposes, tile by tile."""

    block: ClassVar[Block] = TRANSPOSE_TILES


@dataclass(frozen=True, eq=False)
class TransposePanel(Kernel, name="transpose_panel"):
    """A transposed panel of `tile` rows of elements of `item` bytes."""

    tile: int
    item: int

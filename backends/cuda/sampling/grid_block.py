"""Pixels of images at the positions of a grid: a point of some channels per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

ZEROS, BORDER, REFLECTION = range(3)
PADDINGS = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}  # pixels along an axis that a point reads

# y[n, channels, points] of x[n, channels, *sizes] at positions[n, points, dims]. each: channels of a thread; parts:
# threads of a point. align: are the corners' centers at -1 and 1? padding: by PADDINGS. sizes, steps: of the image's
# axes and their byte strides, innermost first; image, plane: bytes of an image and of a channel
GRID = Block("grid total x positions y channels each parts points align padding sizes*3 steps*3 image plane")


@dataclass(frozen=True, eq=False)
class Grid(Kernel, name="grid"):
    """dtype: of the images; position: of the positions; mode: by TAPS."""

    block: ClassVar[Block] = GRID
    dtype: str
    position: str
    dims: int
    mode: str

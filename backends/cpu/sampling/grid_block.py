"""sampling/grid_driver.py. Positions are worked out for some points at a time, and used for all channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

POINTS = 64  # at a time: what is known of them stays in the level-1 cache
ZEROS, BORDER, REFLECTION = range(3)
PADDINGS = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}

# y[n, channels, points] of x[n, channels, h, w] at grid[n, points, 2]. linear: else the nearest pixel. align: are the corners'
# centers at -1 and 1? padding: by PADDINGS. Of each thread, `stride` bytes apart: offsets, int64, and weights, float32, of the
# taps [4, POINTS]; zero: a float32. item: bytes of a position, float32 or float64
GRID = Block("x grid y n channels h w points linear align padding micro offsets weights zero stride item")

# The same of images of any rank and grids [n, points, rank], both of float32 or float64. Of each thread, `scratch`: for each axis
# indices, int64, and weights, float64, of `taps` pixels, then offsets and weights of taps**rank. A record per axis
GRID_TAPS = Block(
    "x grid y n channels points rank taps combinations align padding item grid_item scratch stride", record="size"
)


class Grid(Kernel, name="grid"):
    """Pixels of images at positions from data."""

    block: ClassVar[Block] = GRID


class GridTaps(Kernel, name="grid_taps"):
    """The same, of any number of axes and pixels along each."""

    block: ClassVar[Block] = GRID_TAPS


@dataclass(frozen=True, eq=False)
class GridPoints(Kernel, name="grid_points"):
    """Sums of `taps` weighted pixels."""

    taps: int

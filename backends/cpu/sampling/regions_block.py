"""sampling/regions_driver.py and the block of sampling/regions_micro.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

CHANNELS = 64  # of a region that one thread averages at a time

# y[count, channels, out_h, out_w] of x[images, channels, h, w] and regions [count, 4]; batch: [count], int64 if `wide`, else
# int32. scale: the bits of a float32. half: are pixels' centers at halves? ratio: samples of a bin along an axis, 0: one per
# pixel. Of each thread, `stride` bytes apart: plane, a `region_plane` block, and what that names
REGIONS = Block(
    "x regions batch wide y images channels h w count out_h out_w scale half ratio micro plane rows row_ends columns column_ends "
    "line stride"
)
# weights of each row of the image in each row of bins, and the first row and the one behind the last that count; the same of
# columns; first, end: columns that any bin needs; line: memory for a row of the image and a vector
PLANE = Block("rows row_ends columns column_ends line out_h out_w h w first end")

# The largest corner, or the mean (`average`), of samples one by one; items of the images and regions: bytes
REGION_SAMPLES = Block(
    "x regions batch wide y images channels h w count out_h out_w scale half ratio average item region_item"
)

# the same; regions [count, 5], the number of the image first. ends: of each thread, the first pixel of each row and column of
# bins and the one behind the last
REGION_MAXIMA = Block("x regions y images channels h w count out_h out_w scale ends stride")


class Regions(Kernel, name="regions"):
    """Averages over the bins of regions."""

    block: ClassVar[Block] = REGIONS


class RegionSamples(Kernel, name="region_samples"):
    """Means or largest weighted pixels over the bins of regions."""

    block: ClassVar[Block] = REGION_SAMPLES


class RegionMaxima(Kernel, name="region_maxima"):
    """Largest pixels of the bins of regions."""

    block: ClassVar[Block] = REGION_MAXIMA


class RegionPlane(Kernel, name="region_plane"):
    """A channel of a region."""

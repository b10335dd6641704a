"""Averages, or largest numbers, of samples or of pixels in the bins of regions of images: a bin of a channel per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# y[regions, channels, out_h, out_w] of x[images, channels, h, w] and boxes [regions, 4]; indices: the image of each
# region, int64s if `wide`, else int32s. scale: the bits of a float64. half: are pixels' centers at halves? ratio:
# samples of a bin along an axis, 0: one per pixel. image, plane, row: byte strides of x
REGIONS = Block("grid total indices wide x boxes y images channels h w out_h out_w scale half ratio image plane row")
# the same; regions [count, 5], the number of the image first
REGION_MAXIMA = Block("grid total x regions y images channels h w out_h out_w scale image plane row")


@dataclass(frozen=True, eq=False)
class Regions(Kernel, name="regions"):
    """dtype: of the images; box: of the boxes. largest: not the mean."""

    block: ClassVar[Block] = REGIONS
    dtype: str
    box: str
    largest: bool


@dataclass(frozen=True, eq=False)
class RegionMaxima(Kernel, name="region_maxima"):
    """dtype: of the images and the regions."""

    block: ClassVar[Block] = REGION_MAXIMA
    dtype: str

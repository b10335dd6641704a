"""blocked/blocked_driver.py. Strides in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.expr import Expr
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

SOURCES = 6  # blocks of channels that the lanes of one block are drawn from

_SHARED = "x y n blocks out_d out_h out_w xs_n xs_block xs_d xs_h ys_n ys_block ys_d ys_h"
BLOCKED = Block(_SHARED)  # the head of the next four
LRN_BLOCKED = Block(f"{_SHARED} micro channels")
# from_d, from_h, from_w: tables of int64, bytes or -1. fill: one vector. [run, run_end): the longest run of neighbours in from_w
PICK_PIXELS = Block(f"{_SHARED} from_d from_h from_w fill run run_end")
# mix_rows, mix_pixels: micro-kernels; without mix_pixels the row is the result. count: rows that are summed; offsets, weights:
# theirs, in bytes, [out d][out h][rows]. along, along_weights: the same of pixels along the row, which has in_w
RESIZE_BLOCKED = Block(f"{_SHARED} mix_rows mix_pixels count offsets weights along along_weights in_w scratch stride")
# The rows' tables of RESIZE_BLOCKED, of those of two axes (depth, rows): places in bytes, float64 weights
JOIN_TAPS = Block("offsets weights", record="count taps places weights")
# permute: micro-kernels for 1 … SOURCES source blocks (0: there is none); gather: for any. sources: a SOURCE_BLOCKS for each
# block. lanes: int32 [block][SOURCES][lane]. single: for each channel (int64) its operand and the bytes to it
MAP_CHANNELS = Block(
    f"{_SHARED} permute*{SOURCES} gather channels scratch stride sources lanes single",
    record="ref n d h",  # an operand; `xs` are not used
)
# source blocks of a block (0: use `single`), and of each the number of its operand and the bytes to it
SOURCE_BLOCKS = Block(f"count pairs*{2 * SOURCES}")


class LrnBlocked(Kernel, name="lrn_blocked"):
    """Response normalisation."""

    block: ClassVar[Block] = LRN_BLOCKED


class PickPixels(Kernel, name="pick_pixels"):
    """Pixels from other places."""

    block: ClassVar[Block] = PICK_PIXELS


class ResizeBlocked(Kernel, name="resize_blocked"):
    """Weighted sums of pixels."""

    block: ClassVar[Block] = RESIZE_BLOCKED


class JoinTaps(Kernel, name="join_taps"):
    """The taps of two axes together."""

    block: ClassVar[Block] = JOIN_TAPS


class MapChannels(Kernel, name="map_channels"):
    """Channels from other places."""

    block: ClassVar[Block] = MAP_CHANNELS


@dataclass(frozen=True, eq=False)
class LrnRow(Kernel, name="lrn_row"):
    """A row of `lrn_blocked`."""

    before: int
    after: int
    expression: Expr


@dataclass(frozen=True, eq=False)
class MixRows(Kernel, name="mix_rows"):
    """A row as a weighted sum of `count` rows."""

    count: int


@dataclass(frozen=True, eq=False)
class MixPixels(Kernel, name="mix_pixels"):
    """Pixels of a row as weighted sums of `taps` pixels."""

    taps: int


class GatherLanes(Kernel, name="gather_lanes"):
    """A block of channels from any others."""


@dataclass(frozen=True, eq=False)
class PermuteLanes(Kernel, name="permute_lanes"):
    """A block of channels from `count` blocks."""

    count: int

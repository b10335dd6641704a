"""selection/suppression_driver.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# Of boxes [batches, n, 4] and scores [batches, classes, n]: kept, int32 [batches * classes, most], and counts, int64, of each
# class. limit: where the int64 is, or 0; iou: where the float32 is; threshold: the same, or 0. passing: `passing_scores`.
# keep: `keep_box`. For each thread: candidates and spare, n int64; digits of a sort; chosen: see `keep_box`, arrays of
# `chosen_array` bytes
SUPPRESS = Block(
    "boxes scores limit iou threshold batches classes n most kept counts passing keep candidates candidates_stride spare "
    "spare_stride digits digits_stride chosen chosen_stride chosen_array"
)
# y: int64 [rows, 3]; total: where the number of rows goes
SUPPRESSED = Block("kept counts jobs classes most y total")


class Suppress(Kernel, name="suppress"):
    """Boxes that stay, of each class."""

    block: ClassVar[Block] = SUPPRESS


class Suppressed(Kernel, name="suppressed"):
    """The rows of all classes."""

    block: ClassVar[Block] = SUPPRESSED


@dataclass(frozen=True, eq=False)
class PassingScores(Kernel, name="passing_scores"):
    """Scores above a threshold, as numbers to sort."""


@dataclass(frozen=True, eq=False)
class KeepBox(Kernel, name="keep_box"):
    """Is a box apart from those that were chosen? Then it is chosen."""

    center: bool

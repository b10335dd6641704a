"""Non-maximum suppression: of each class of a batch entry the best boxes that overlap no better one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

BOXES, PARTS = 64, 4  # candidates that a block of threads looks at at once; threads of each

# scores: n float32. threshold: where the float32 is that they must exceed, or 0. keys: int64
SCORE_KEYS = Block("grid n scores threshold keys")
# A block of threads for each class. boxes: float32 [batch, n, 4]. keys, places: int64 [batch, class, n], in order; places are
# numbers of boxes. limit: where the int64 is, or 0; iou: where the float32 is. kept: int32 [batch, class, most]; counts: int64
SUPPRESS = Block("grid boxes limit iou classes n most keys places kept counts")
# y: int64 [rows, 3]; total: where the number of rows goes. A block of threads for each class, and one for the total
SUPPRESSED = Block("grid kept counts jobs classes most y total")


class ScoreKeys(Kernel, name="score_keys"):
    """Scores as numbers to sort, the best first."""

    block: ClassVar[Block] = SCORE_KEYS


@dataclass(frozen=True, eq=False)
class Suppress(Kernel, name="suppress"):
    """Boxes that stay, of each class. center: are they given by center and size?"""

    block: ClassVar[Block] = SUPPRESS
    center: bool


class Suppressed(Kernel, name="suppressed"):
    """The rows of all classes."""

    block: ClassVar[Block] = SUPPRESSED

"""Tables of the elements that each result along an axis reads: constants, or written by a step where sizes stand for many."""

from __future__ import annotations

import numpy as np

from graphc.lower.constants import constant
from graphc.lower.lowering import Lowering
from graphc.lower.storage import Buffer, Ref
from graphc.lower.verbs import Table
from graphc.ops._positions import OUTSIDE, Reads
from graphc.report import StepInfo
from graphc.sizes import is_size


def table(lo: Lowering, reads: Reads | np.ndarray, stride: int) -> Table:
    """Of elements, or of their indices, that lie `stride` bytes apart."""
    if isinstance(reads, Reads):
        if reads.of_many or is_size(stride):
            return _written(lo, reads, stride)
        reads = reads.indices()
    offsets = np.where(reads == OUTSIDE, OUTSIDE, reads * stride).astype(np.int64)
    return Table(constant(lo, offsets).ref, len(reads), _longest_run(reads))


def _written(lo: Lowering, reads: Reads, stride: int) -> Table:
    nbytes = 8 * reads.count
    y = Ref(Buffer("positions", nbytes))
    lo.write_positions(
        y, reads, stride, StepInfo(0, (), ("Positions",), "write_positions", output="positions", nbytes=nbytes)
    )
    return Table(y, reads.count, reads.run())


def _longest_run(indices: np.ndarray) -> tuple[int, int]:
    breaks = np.flatnonzero((np.diff(indices) != 1) | (indices[1:] < 0) | (indices[:-1] < 0)) + 1
    edges = np.concatenate([[0], breaks, [len(indices)]])
    longest = int(np.argmax(np.diff(edges)))
    return int(edges[longest]), int(edges[longest + 1])

"""NonMaxSuppression: the scores of each class in order, the boxes that stay, and their rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.selection.suppression_block import (
    SCORE_KEYS,
    SUPPRESS,
    SUPPRESSED,
    ScoreKeys,
    Suppress,
    Suppressed,
)
from graphc.lower.bounded import results
from graphc.lower.bounded import suppressed as supported
from graphc.lower.constants import zero
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref
from graphc.ops.detect import most_selected
from graphc.types import number

FLOPS = 20  # of a box: its place in the order, and a few overlaps


@lowers("NonMaxSuppression", supported=supported)
def lower_suppression(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    boxes, scores = lo.read(node.inputs[0]), lo.read(node.inputs[1])
    y, total = results(lo, node)
    name, (batches, classes, n), most = node.output.name, scores.type.extents, number(most_selected(node.call))
    jobs, all_scores = batches * classes, batches * classes * n
    limit, iou, threshold = (lo.read(node.inputs[i]).ref if node.call.has(i) else 0 for i in (2, 3, 4))
    info = replace(lo.info(group, "suppress"), flops=FLOPS * all_scores, nbytes=4 * n * (4 * batches + jobs))
    small = replace(info, flops=0, nbytes=16 * all_scores)

    def memory(what: str, nbytes: int) -> Ref:
        return Ref(Buffer(f"{name}/{what}", nbytes))

    unsorted, keys, places = (memory(what, 8 * all_scores) for what in ("scores", "keys", "places"))
    args = SCORE_KEYS(
        grid=-(-all_scores // THREADS), n=all_scores, scores=scores.ref, threshold=threshold, keys=unsorted
    )
    lo.emit(ScoreKeys(), args, replace(small, kernel="score_keys"), writes=[unsorted])
    around = jobs, n, 1
    lo.top_k(True, np.dtype(np.int64), unsorted, around, n, keys, places, name, replace(small, kernel="top_k"))

    kept, counts = memory("kept", 4 * jobs * most), memory("counts", 8 * jobs)
    args = SUPPRESS(
        grid=jobs, boxes=boxes.ref, limit=limit, iou=iou or zero(lo, np.dtype(np.float32)), classes=classes, n=n, most=most,
        keys=keys, places=places, kept=kept, counts=counts,
    )  # fmt: skip
    lo.emit(Suppress(node.attrs["center_point_box"]), args, info, writes=[kept, counts])
    args = SUPPRESSED(grid=jobs + 1, kept=kept, counts=counts, jobs=jobs, classes=classes, most=most, y=y, total=total)
    lo.emit(Suppressed(), args, replace(small, kernel="suppressed"), writes=[y, total])

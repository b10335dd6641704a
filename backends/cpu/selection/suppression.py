"""NonMaxSuppression."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.selection.sort_block import DIGITS_BYTES
from graphc.backends.cpu.selection.suppression_block import (
    SUPPRESS,
    SUPPRESSED,
    KeepBox,
    PassingScores,
    Suppress,
    Suppressed,
)
from graphc.lower.bounded import results, suppressed
from graphc.lower.constants import zero
from graphc.lower.storage import Buffer, Ref
from graphc.ops.detect import most_selected
from graphc.types import number

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.lower.fuse import Group

FLOPS = 20  # of a box: its place in the order, and a few overlaps


@RULES.lowers("NonMaxSuppression", supported=suppressed)
def lower_suppression(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    boxes, scores = lo.read(node.inputs[0]), lo.read(node.inputs[1])
    y, total = results(lo, node)
    name, (batches, classes, n), most = node.output.name, scores.type.extents, number(most_selected(node.call))
    jobs, width = batches * classes, lo.target.vl
    limit, iou, threshold = (lo.read(node.inputs[i]).ref if node.call.has(i) else 0 for i in (2, 3, 4))
    kept, counts = Ref(Buffer(f"{name}/kept", 4 * jobs * most)), Ref(Buffer(f"{name}/counts", 8 * jobs))
    candidates, candidates_stride = lo.scratch(f"{name}/candidates", 8 * n)
    spare, spare_stride = lo.scratch(f"{name}/spare", 8 * n)
    digits, digits_stride = lo.scratch(f"{name}/digits", DIGITS_BYTES)
    array = -(-most // width) * width * 4
    chosen, chosen_stride = lo.scratch(f"{name}/chosen", 5 * array)
    info = replace(lo.info(group, "suppress"), flops=FLOPS * jobs * n, nbytes=4 * n * (4 * batches + jobs))
    args = SUPPRESS(
        boxes=boxes.ref, scores=scores.ref, limit=limit, iou=iou or zero(lo, np.dtype(np.float32)), threshold=threshold,
        batches=batches, classes=classes, n=n, most=most, kept=kept, counts=counts, passing=PassingScores(),
        keep=KeepBox(node.attrs["center_point_box"]), candidates=candidates, candidates_stride=candidates_stride,
        spare=spare, spare_stride=spare_stride, digits=digits, digits_stride=digits_stride, chosen=chosen,
        chosen_stride=chosen_stride, chosen_array=array,
    )  # fmt: skip
    lo.emit(Suppress(), args, info, writes=[kept, counts])
    rows = SUPPRESSED(kept=kept, counts=counts, jobs=jobs, classes=classes, most=most, y=y, total=total)
    lo.emit(Suppressed(), rows, replace(info, kernel="suppressed", flops=0, nbytes=0), writes=[y, total])

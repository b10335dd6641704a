"""Col2Im."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc import expr as e
from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.sampling.fold_block import FOLD, Fold
from graphc.backends.cpu.verbs.rows_block import MapRow
from graphc.lower import fold
from graphc.lower.registry import native_dtypes

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.lower.fuse import Group

FIELDS = ("image", "block", "count", "dilation", "pad", "stride")


@RULES.lowers("Col2Im", supported=native_dtypes)
def lower_col2im(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    if node.output.dtype.name not in ("float32", "float64"):
        fold.lower_col2im(lo, group)
        return
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    t = y.type
    if t.elements == 0:
        return
    records = [dict(zip(FIELDS, axis)) for axis in zip(*fold.geometry(node))]
    planes, rank, item = t.extents[0] * t.extents[1], len(records), t.dtype.itemsize
    added = e.arg(0, t.dtype) + e.arg(1, t.dtype)
    micro = MapRow(expression=added, kinds="vv", dtypes=(t.dtype.name,) * 2)
    operands, apart = lo.scratch(f"{node.output.name}/operands", 8 * 3)
    args = FOLD(
        x=x.ref,
        y=y.ref,
        planes=planes,
        rank=rank,
        item=item,
        micro=micro,
        operands=operands,
        apart=apart,
        records=records,
    )
    lo.emit(Fold(), args, lo.info(group, "fold"), writes=[y.ref])

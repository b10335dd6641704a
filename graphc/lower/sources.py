"""Values that follow from sizes alone: numbers counted up, one number everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphc import expr as e
from graphc.graph import Node
from graphc.lower.constants import constant
from graphc.lower.elementwise import emit_map
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.movement import emit_part
from graphc.lower.registry import lowers, moved_dtypes, native_dtypes
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.ops.constant import range_length
from graphc.report import StepInfo
from graphc.sizes import is_size, whole
from graphc.types import TensorType


def counted(lo: Lowering, start: int, count: int, step: int = 1, name: str = "positions") -> Storage:
    """start, start + step, … as int64: a constant where it is known how many."""
    if not any(map(is_size, (start, count, step))):
        return constant(lo, start + step * np.arange(count))
    t = TensorType(np.int64, (count,))
    y = Ref(Buffer(name, t.nbytes))
    info = StepInfo(0, (), ("Range",), "count_up", output=name, nbytes=t.nbytes)
    lo.count_up(y, start, step, count, info)
    return Storage(y, t, dense_strides(t))


def _is_whole(node: Node, target: object) -> str | None:
    if node.output.dtype.kind not in "iu":
        return f"Range has no {node.output.dtype.name} kernel"
    return native_dtypes(node) if all(v.is_const for v in node.operands) else "its bounds are computed at run time"


@lowers("Range", supported=_is_whole)
def lower_range(lo: Lowering, group: Group) -> None:
    node, t = group.nodes[0], group.nodes[0].output.type
    start, limit, delta = (whole(v.data.reshape(-1)[0]) for v in node.operands)
    numbers = counted(lo, start, range_length(start, limit, delta), delta, f"{node.output.name}/numbers")
    if t.dtype == np.int64:
        emit_part(lo, group, node.output, numbers.ref, numbers.strides)
        return
    narrowed = replace(group, anchor=None, expression=e.cast(e.arg(0, np.int64), t.dtype), operands=())
    out = lo.write(node.output)
    if t.elements:
        emit_map(lo, narrowed, [t.elements], [[t.dtype.itemsize], list(numbers.strides)], [out, numbers])


@lowers("Positions", supported=native_dtypes)
def lower_positions(lo: Lowering, group: Group) -> None:
    """Counted up when the model runs: an array of them in the plan would be as large as the result."""
    out = lo.write(group.output)
    dense = Storage(
        out.ref if out.contiguous else Ref(Buffer("positions", out.type.nbytes)), out.type, dense_strides(out.type)
    )
    lo.count_up(dense.ref, 0, 1, out.type.elements, lo.info(group, "count_up"))
    if not out.contiguous:
        lo.copy(dense.ref, dense.strides, out.ref, out.strides, out.type.extents, 8, lo.info(group, "copy_strided"))


@lowers("ConstantOfShape", supported=moved_dtypes)
def lower_filled(lo: Lowering, group: Group) -> None:
    """Strides of 0."""
    node = group.nodes[0]
    value = constant(lo, node.attrs["value"].reshape(-1)[:1])
    emit_part(lo, group, node.output, value.ref, [0] * node.output.type.rank)

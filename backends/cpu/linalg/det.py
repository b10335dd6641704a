"""Det."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.backends.cpu.linalg.det_block import DETERMINANTS, Determinants
from graphc.backends.cpu.lower.registry import RULES

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.graph import Node
    from graphc.lower.fuse import Group


def _floats(node: Node, target: Any) -> str | None:
    dtype = node.inputs[0].dtype.name
    return None if dtype in ("float32", "float64") else f"Det has no {dtype} kernel"


@RULES.lowers("Det", supported=_floats)
def lower_det(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    n, count = x.type.extents[-1], node.output.type.elements
    if count == 0:
        return
    scratch, stride = lo.scratch(f"{node.output.name}/matrix", 8 * n * n)
    args = DETERMINANTS(x=x.ref, y=y.ref, count=count, n=n, item=x.type.dtype.itemsize, scratch=scratch, stride=stride)
    lo.emit(Determinants(), args, lo.info(group, "determinants"), writes=[y.ref])

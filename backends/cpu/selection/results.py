"""Where the results of a node in bounded form go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.lower.constants import zero
from graphc.lower.storage import Ref
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.graph import Node


def results(lo: CpuLowering, node: Node) -> list[Ref]:
    """The buffers, and the size after them. In checked runs the buffers are cleared first: no kernel writes behind a result."""
    places = [lo.write(v) for v in node.outputs]
    if lo.checked:
        for v, s in zip(node.outputs, places[:-1]):
            item = v.dtype.itemsize
            info = StepInfo(0, (), ("Clear",), "copy_strided", output=v.name)
            lo.copy(zero(lo, v.dtype), [0], s.ref, [item], [v.type.elements], item, info)
    return [s.ref for s in places]

"""Where the results of a node in bounded form go (graphc/bounded.py), and which such nodes have kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.lower.constants import zero
from graphc.lower.registry import moved_dtypes, native_dtypes
from graphc.lower.storage import Ref
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.graph import Node
    from graphc.lower.lowering import Lowering

SUPPRESSION_DTYPES = ("float32", "float32", "int64", "float32", "float32")  # of NonMaxSuppression's operands


def results(lo: Lowering, node: Node) -> list[Ref]:
    """The buffers, and the size after them. In checked runs the buffers are cleared first: no kernel writes behind a result."""
    places = [lo.write(v) for v in node.outputs]
    if lo.checked:
        for v, s in zip(node.outputs, places[:-1]):
            item = v.dtype.itemsize
            info = StepInfo(0, (), ("Clear",), "copy_strided", output=v.name)
            lo.copy(zero(lo, v.dtype), [0], s.ref, [item], [v.type.elements], item, info)
    return [s.ref for s in places]


# --- what has kernels -------------------------------------------------------------------------------------------------
def compressed(node: Node, target: Any = None) -> str | None:
    """Compress."""
    if not node.inputs[1].is_const and len(node.outputs) == 1:  # no bounded form: graphc/bounded.py
        return "the shape of its result follows from data"
    return moved_dtypes(node)


def distinct(node: Node, target: Any = None) -> str | None:
    """Unique."""
    if node.attrs["axis"] is not None and node.inputs[0].type.rank > 1:
        return "distinct rows have no kernel"
    return native_dtypes(node)


def suppressed(node: Node, target: Any = None) -> str | None:
    """NonMaxSuppression."""
    for v, dtype, name in zip(node.inputs, SUPPRESSION_DTYPES, node.op.inputs):
        if v is not None and v.dtype.name != dtype:
            return f"its '{name.rstrip('?')}' is {v.dtype.name}, not {dtype}"
    return native_dtypes(node)

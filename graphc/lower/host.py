"""Steps on the host, through the operators' references, and copies of results into the caller's arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.attrs import Attrs
from graphc.graph import Graph, Node, Value
from graphc.growing import results_of
from graphc.lower.lowering import Lowering
from graphc.lower.movement import emit_copy
from graphc.lower.placement import extern
from graphc.lower.program import HostStep
from graphc.lower.storage import ExternBuffer, Ref, Storage, dense_strides
from graphc.op import get_op
from graphc.report import StepInfo
from graphc.signature import Growth
from graphc.sizes import is_size_array
from graphc.source_files import owned


def copy_results(lo: Lowering, graph: Graph, grown: Sequence[Growth] = ()) -> None:
    """Results that live elsewhere (an input, a view, or a value that is two results) are copied into the caller's array.

    grown: states that grew in place.
    """
    for (name, v), buffer in zip(results_of(graph, grown), lo.program.outputs):
        if isinstance(buffer, np.ndarray) or lo.strided(v).ref.buffer is buffer:
            continue
        if v.dtype.kind in "OUS":  # references to Python objects are not mere bytes
            identity = Node(get_op("Identity"), (v,), (Value(name, v.type),), Attrs(), f"result {name}")
            lo.place(identity.output, Ref(buffer))
            lower_on_host(lo, identity, "Python objects are not mere bytes")
            continue
        emit_copy(lo, lo.strided(v), Ref(buffer), f"result {name}")


def lower_on_host(lo: Lowering, node: Node, reason: str) -> None:
    """A node that runs through its reference, on arrays of the caller's side."""
    inputs: list[ExternBuffer | np.ndarray | None] = []
    for v in node.inputs:
        if v is None or (v.is_const and not is_size_array(v.data)):
            inputs.append(None if v is None else owned(v.data))
            continue
        s = lo.strided(v)
        buffer = s.ref.buffer
        if not (isinstance(buffer, ExternBuffer) and s.contiguous and s.ref.offset == 0 and buffer.shape == v.shape):
            buffer = extern(v)
            emit_copy(lo, s, Ref(buffer), v.name)
        inputs.append(buffer)
    outputs = [_extern_of(lo, v) for v in node.outputs]
    info = StepInfo(
        len(lo.program.steps), (node.name,), (node.op.name,), "host", "", reason, node.output.name, 0, 0, host=True
    )
    lo.program.steps.append(HostStep(node, tuple(inputs), tuple(outputs), info))
    for v, b in zip(node.outputs, outputs):
        s = lo.storage[v]
        if s.ref.buffer is not b:  # the value has a place of its own (part of a concatenation)
            emit_copy(lo, Storage(Ref(b), v.type, dense_strides(v.type)), s.ref, v.name)


def _extern_of(lo: Lowering, v: Value) -> ExternBuffer:
    """What Python writes a result into: where the value lies if Python sees that, else a buffer of its own."""
    s = lo.storage.get(v)
    if s is not None and isinstance(s.ref.buffer, ExternBuffer):
        return s.ref.buffer
    buffer = extern(v)
    if s is None:
        lo.place(v, Ref(buffer))
    return buffer

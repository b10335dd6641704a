"""The steps of one group of nodes."""

from __future__ import annotations

from graphc.graph import Node
from graphc.lower.elementwise import lower_elementwise
from graphc.lower.fuse import Group
from graphc.lower.host import lower_on_host
from graphc.lower.lowering import Lowering
from graphc.lower.program import Step
from graphc.unread import all_attributes_read, require_operands_read


def lower_group(lo: Lowering, group: Group, reason: str | None) -> None:
    """reason: why it runs on the host, if it does."""
    node = group.anchor or group.nodes[0]
    if reason is not None:
        lower_on_host(lo, node, reason)
    elif group.anchor is None:
        lower_elementwise(lo, group)
    else:
        _lower_anchor(lo, group, node)
    lo.made(group.nodes[-1].outputs)


def _lower_anchor(lo: Lowering, group: Group, node: Node) -> None:
    kernel, start = f"its {lo.rules.name} kernel", len(lo.program.steps)
    with all_attributes_read(node, kernel), lo.rules.mistakes(node, "lowers"):
        lo.rules.lowering_of(node)(lo, group)
    steps = (s for s in lo.program.steps[start:] if isinstance(s, Step))
    buffers = {b for s in steps for b in s.reads} | {lo.storage[v].ref.buffer for v in node.outputs if v in lo.storage}
    buffers |= {lo.packed_from[b] for b in buffers if b in lo.packed_from}
    read = [v for v in node.operands if v in lo.idle or lo.lies_in(v, buffers)]
    if group.prologue is not None and all(v.is_const or lo.lies_in(v, buffers) for v in group.prologue.inputs):
        read += group.prologue.nodes[-1].outputs  # it has no memory
    require_operands_read(node, read, kernel)

"""The steps of one group of nodes."""

from __future__ import annotations

from graphc.lower.elementwise import lower_elementwise
from graphc.lower.fuse import Group
from graphc.lower.host import lower_on_host
from graphc.lower.lowering import Lowering


def lower_group(lo: Lowering, group: Group, reason: str | None) -> None:
    """reason: why it runs on the host, if it does."""
    node = group.anchor or group.nodes[0]
    if reason is not None:
        lower_on_host(lo, node, reason)
    elif group.anchor is None:
        lower_elementwise(lo, group)
    else:
        lo.rules.lowering_of(node)(lo, group)
    lo.made(group.nodes[-1].outputs)

"""What stages made, as text for a person (`graphc compile MODEL --stop-after NAME`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.storage import Storage


def shown_groups(groups: Sequence[Group], reasons: Mapping[Node, str | None]) -> str:
    """reasons: why a node runs on the host."""
    lines = []
    for g in groups:
        reason = reasons.get(g.nodes[0])
        what = " + ".join(n.op.name for n in g.every_node)
        lines.append(f"%{g.output.name}: {g.output.type} = {what}{f'  # on the host: {reason}' if reason else ''}")
    return "\n".join(lines)


def shown_places(storage: Mapping[Value, Storage]) -> str:
    return "\n".join(f"%{v.name}: {_place(s)}" for v, s in storage.items())


def _place(s: Storage) -> str:
    buffer = s.ref.buffer
    return f"{s.type} in {buffer.kind} '{buffer.name}' at {s.ref.offset}, strides {list(s.strides)}"

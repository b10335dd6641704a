"""Attributes and operands that nothing has read: a lowering or an expansion that passes one over would give a wrong result in
silence, as engines do that run a reversed layer forward. Here it is an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphc.errors import UnsupportedError
from graphc.graph import Node, Value
from graphc.op import REQUIRED


@contextmanager
def all_attributes_read(node: Node, by: str) -> Iterator[None]:
    """What runs inside reads every attribute of the node that is not at its default. by: what makes code of it there, for
    people.

    Raises UnsupportedError with the attribute that it passes over. `Attr.settled` and `Attrs.ignore` tell of those that need
    no reading, and nothing is read where there is nothing to compute.
    """
    attrs, looked_at = node.attrs, set[str]()
    attrs.looked_at = looked_at
    try:
        yield
    finally:
        attrs.looked_at = None
    if any(v.type is not None and v.type.size == 0 for v in node.outputs):
        return
    for key, value in dict.items(attrs):
        spec = node.op.attrs[key]
        if key not in looked_at and not spec.settled and not _same(value, node.op.defaults.get(key, REQUIRED)):
            raise _passed_over(node, f"attribute '{key}' = {value}", by)


def require_operands_read(node: Node, read: Collection[Value], by: str) -> None:
    """Raises UnsupportedError if code made of a node reads an operand that is no constant nowhere. read: what it reads.

    Where there is nothing to compute, nothing is read; of some operands only the type counts; a graph may not need what it is given.
    """
    if node.op.holds_graphs or any(v.type is None or v.type.size == 0 for v in (*node.operands, *node.outputs)):
        return
    for i, v in enumerate(node.inputs):
        if (
            v is None
            or v.is_const
            or v in read
            or node.op.type_only
            or i in node.op.types_of
            or i in node.op.statistics
        ):
            continue
        raise _passed_over(node, f"operand '{node.op.inputs[min(i, len(node.op.inputs) - 1)].strip('*?')}'", by)


def _passed_over(node: Node, what: str, by: str) -> UnsupportedError:
    return UnsupportedError(
        f"{by} takes no account of its {what}",
        hint="its result would be wrong; this is a fault of graphc, or of the package that registers the operator: report it",
        op=node.op.name,
        node=node.name,
        source=node.source,
    )


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, np.ndarray) or isinstance(default, np.ndarray):
        return False
    return type(value) is type(default) and bool(value == default)

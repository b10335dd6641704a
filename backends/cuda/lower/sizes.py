"""How large what kernels count in 32 bits may be."""

from __future__ import annotations

from math import prod

from graphc.graph import Node

LONGEST = 1 << 28  # elements of an axis: bytes along it, and positions beyond its ends, are numbers of 32 bits
MOST_ROWS = 1 << 31  # of a result, with all that is around them


def too_large(node: Node) -> str | None:
    """Why kernels that count in 32 bits do not serve a node, or None. Sizes that are not known yet are taken for small ones."""
    shapes = [v.shape for v in (*node.operands, *node.outputs)]
    if any(isinstance(d, int) and d >= LONGEST for shape in shapes for d in shape):
        return f"an axis of {LONGEST} elements or more"
    rows = prod(d for d in node.output.shape[:-1] if isinstance(d, int))
    return f"{MOST_ROWS} rows or more" if rows >= MOST_ROWS else None

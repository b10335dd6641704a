"""Sizes: how large they may be where kernels count in 32 bits, and decisions that hold for many of them (graphc/sizes.py)."""

from __future__ import annotations

from math import prod
from typing import Any

from graphc.graph import Node
from graphc.sizes import choose, hint_of, is_size, need, where

LONGEST = 1 << 28  # elements of an axis: bytes along it, and positions beyond its ends, are numbers of 32 bits
NOWHERE = 2 * LONGEST  # a position in a window that lies outside of every image
MOST_ROWS = 1 << 31  # of a result, with all that is around them
FAR = 4  # a kernel that was chosen for its speed serves sizes up to so many times smaller or larger,
FEW = 1 << 17  # and all that have no more results: these leave a GPU idle, whatever the kernel


def too_large(node: Node) -> str | None:
    """Why kernels that count in 32 bits do not serve a node, or None. Sizes that are not known yet are taken for small ones."""
    shapes = [v.shape for v in (*node.operands, *node.outputs)]
    if any(isinstance(d, int) and d >= LONGEST for shape in shapes for d in shape):
        return f"an axis of {LONGEST} elements or more"
    rows = prod(d for d in node.output.shape[:-1] if isinstance(d, int))
    return f"{MOST_ROWS} rows or more" if rows >= MOST_ROWS else None


def require_near(results: Any) -> None:
    """What was chosen for its speed is for about so many results as the example has."""
    if is_size(results):
        number = hint_of(results)
        need(results <= max(FEW, number * FAR))
        if number > FEW:
            need(results * FAR >= number)


def either(positive: Any, a: int, b: int) -> Any:
    """`where` of two numbers, which a field of a kernel may hold: for each there is one."""
    return choose(lambda n: (b, a)[n - 1], where(positive, 2, 1))

"""Delta debugging: the smallest part of a list of which something still holds.

Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28 (2002), algorithm ddmin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def ddmin(items: Sequence[Item], holds: Callable[[Sequence[Item]], bool]) -> list[Item]:
    """A part, in order, of which it holds, and of which it holds no more once any one item is left out. It holds of all items;
    `holds` is asked of no part twice in a row of the same granularity."""
    kept, parts = list(items), 2
    while len(kept) >= 2:
        size = -(-len(kept) // parts)
        chunks = [kept[i : i + size] for i in range(0, len(kept), size)]
        found = next((c for c in chunks if holds(c)), None) if size > 1 or len(kept) == 2 else None
        if found is not None:
            kept, parts = found, 2
            continue
        for i in reversed(range(len(chunks))) if len(chunks) > 2 else ():
            rest = [item for k, c in enumerate(chunks) if k != i for item in c]
            if holds(rest):
                kept, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(kept))
    return kept

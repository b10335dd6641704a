"""Chunks of elements of which some are chosen."""

from __future__ import annotations

from typing import Any

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.selection.ranks_block import EACH
from graphc.lower.storage import Buffer, Ref

TILE = EACH * THREADS  # elements that a block of threads looks at at once
CHUNKS = 1024  # at most: each block reads the counts of all


def chunks(n: int, name: str) -> dict[str, Any]:
    """The words of COUNTED; one chunk at least, for an empty one has a count, too."""
    chunk = TILE * (n // (TILE * CHUNKS) + 1)
    grid = n // chunk + 1
    return {"grid": grid, "n": n, "chunk": chunk, "counts": Ref(Buffer(f"{name}/chunks", 8 * grid))}

"""What kernels that number chosen elements have in common: see ranks_kernels.py."""

from __future__ import annotations

from typing import Any

from graphc.backends.cuda.kernel import THREADS
from graphc.lower.block import Block
from graphc.lower.storage import Buffer, Ref

TILE = 8 * THREADS  # elements that a block of threads looks at at once
CHUNKS = 1024  # at most: each block reads the counts of all

# n: elements, in chunks of `chunk`, one for each block of threads. counts: int64 of each chunk
COUNTED = Block("grid n chunk counts")
RANKED = Block("grid n chunk counts total")  # total: where the number of those chosen goes, int64


def chunks(n: int, name: str) -> dict[str, Any]:
    """The words of COUNTED; one chunk at least, for an empty one has a count, too."""
    chunk = TILE * (n // (TILE * CHUNKS) + 1)
    grid = n // chunk + 1
    return {"grid": grid, "n": n, "chunk": chunk, "counts": Ref(Buffer(f"{name}/chunks", 8 * grid))}

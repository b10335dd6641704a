"""What kernels that number chosen elements have in common: see ranks_kernels.py."""

from __future__ import annotations

from graphc.lower.block import Block

EACH = 8  # elements of a thread that a block of threads looks at at once

# n: elements, in chunks of `chunk`, one for each block of threads. counts: int64 of each chunk
COUNTED = Block("grid n chunk counts")
RANKED = Block("grid n chunk counts total")  # total: where the number of those chosen goes, int64

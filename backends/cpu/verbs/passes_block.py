"""verbs/passes_driver.py.

dims: outer extents, innermost first. m_chunk, n_chunk: elements of a chunk.
"""

from __future__ import annotations

from graphc.backends.cpu.block import Block
from graphc.lower.limits import PASS_DIMS

PASSES = Block(
    f"micro operands scratch stride m m_chunk n n_chunk dims*{PASS_DIMS}",
    # step: passed on. m_bytes, n_bytes: from one chunk of m or n to the next
    record=f"ref step m_bytes n_bytes strides*{PASS_DIMS}",
)

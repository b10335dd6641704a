"""How many bytes one instruction can move."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.cuda.lower.sizes import power_that_divides
from graphc.lower.storage import Buffer, ExternBuffer, Ref

WIDEST = 8  # bytes of one load or store here


def widest(refs: Sequence[Ref], *nbytes: int) -> int:
    """1, 2, 4 or 8 bytes that divide the addresses of all refs plus any multiples of `nbytes`; a value."""
    return power_that_divides(WIDEST, *nbytes, *(r.offset for r in refs), *(_alignment(r.buffer) for r in refs))


def _alignment(buffer: Buffer) -> int:
    """Buffers begin at multiples of ALIGNMENT, but for arrays of the caller's."""
    return buffer.dtype.itemsize if isinstance(buffer, ExternBuffer) else WIDEST

"""Memory for buffers."""

from __future__ import annotations

import mmap

import numpy as np

ALIGNMENT = 64  # bytes, of every buffer: a cache line, the widest vector


def aligned_empty(nbytes: int) -> np.ndarray:
    """Uninitialised (zero at first touch) bytes on a page boundary, in huge pages where the system has them."""
    if nbytes < 1 << 21:
        raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + nbytes]
    try:
        memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"unable to allocate {nbytes} bytes of working memory") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)

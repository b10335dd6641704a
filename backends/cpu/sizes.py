"""Sizes that lowering and drivers agree on: what an argument block has room for, and how a thread's scratch is cut.

Free of Numba, which lowering does not load; drivers freeze these numbers into their code. Argument blocks are declared in the x_block.py of each family.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.lower.limits import TABLE_AXES

CACHE_LINE = 64
FLOAT_BYTES = np.dtype(np.float32).itemsize  # of an element, where a kernel computes in float32 only


def lines(nbytes: int) -> int:
    """Bytes of the whole cache lines that hold so many."""
    return -(-nbytes // CACHE_LINE) * CACHE_LINE


# loops around the innermost one
COPY_DIMS = 7  # verbs/copy_driver.py
ROW_DIMS = 6  # verbs/rows_driver.py
TABLE_DIMS = TABLE_AXES - 1  # verbs/tables_driver.py
BATCH_DIMS = 4  # product/gemm_driver.py

# executor/executor_driver.py: the control block of a pool, behind it the CPUs that each thread may use, as libc's sets of CPUs
CONTROL_BYTES = 8 * CACHE_LINE
MASK_BYTES = 128


def padded(words: Sequence, size: int) -> list:
    """A record of fixed size. Raises AssertionError where there are more words."""
    if len(words) > size:
        raise AssertionError(f"a record of {size} words can't hold {len(words)}")
    return [*words, *[0] * (size - len(words))]

"""verbs/ordered_driver.py."""

from __future__ import annotations

from graphc.backends.cpu.block import Block

# of x[outer, n, inner] the k first along n, elements of `item` bytes. micro: `sort_keys`. keys, heap: of each thread, `stride`
# bytes apart: n and 2 k int64
TOP_K = Block("x values indices keys micro item outer n inner k heap stride")

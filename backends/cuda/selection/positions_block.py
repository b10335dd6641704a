"""Positions of what is not zero, and what lies at such positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

COUNT_TRUE = Block("grid n chunk counts x")  # head: see ranks_block.py
# found: int64 [rank, total] coordinates. A record per dim of x
FIND_TRUE = Block("grid n chunk counts total x found rank", record="size")
# y[outer, i, block] = x[outer, positions[i], block]. The first four words are those of kernels that look at positions
# (verbs/index_block.py). count: where the number of positions is, `most` at most; outer: blocks of x before the axis; size: of the
# axis; threads: of a block, an item each; block: bytes, or 0 where positions are looked at and nothing is read
TAKE = Block("grid total indices wide x y count most size threads block")


@dataclass(frozen=True, eq=False)
class CountTrue(Kernel, name="count_true"):
    """How many elements of each chunk are not zero."""

    block: ClassVar[Block] = COUNT_TRUE
    dtype: str


@dataclass(frozen=True, eq=False)
class FindTrue(Kernel, name="find_true"):
    """Where they are."""

    block: ClassVar[Block] = FIND_TRUE
    dtype: str


@dataclass(frozen=True, eq=False)
class Take(Kernel, name="take"):
    """Blocks at ascending positions, whose number is read from memory. item: bytes that a thread moves."""

    block: ClassVar[Block] = TAKE
    item: int

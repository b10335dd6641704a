"""The distinct elements of a tensor: groups of equal neighbours in sorted order, which may be numbered anew.

Of each group: `firsts`, the first of its elements, and `starts`, where it begins in sorted order. groups: of each element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# The heads are those of ranks_block.py. sorted: elements in order; places: which elements of x they are
COUNT_DISTINCT = Block("grid n chunk counts sorted")
NUMBER_DISTINCT = Block("grid n chunk counts total sorted places groups firsts starts")
COUNT_FIRSTS = Block("grid n chunk counts groups firsts")
# By first elements: numbers, of each group the new one; old, of each new number the group; new_firsts
NUMBER_FIRSTS = Block("grid n chunk counts total groups firsts numbers old new_firsts")
# n: elements of x; groups: how many there are. repeats: of each group. old: see above, or 0; then also inverse[i] =
# numbers[groups_of[i]]
DESCRIBE = Block("grid n total x firsts starts values repeats old numbers groups inverse")


@dataclass(frozen=True, eq=False)
class CountDistinct(Kernel, name="count_distinct"):
    """How many elements of each chunk differ from the one before."""

    block: ClassVar[Block] = COUNT_DISTINCT
    dtype: str


@dataclass(frozen=True, eq=False)
class NumberDistinct(Kernel, name="number_distinct"):
    """Groups in sorted order."""

    block: ClassVar[Block] = NUMBER_DISTINCT
    dtype: str


class CountFirsts(Kernel, name="count_firsts"):
    """How many elements of each chunk are the first of their groups."""

    block: ClassVar[Block] = COUNT_FIRSTS


class NumberFirsts(Kernel, name="number_firsts"):
    """Groups in the order of their first elements."""

    block: ClassVar[Block] = NUMBER_FIRSTS


@dataclass(frozen=True, eq=False)
class Describe(Kernel, name="describe_groups"):
    """The value of each group, and how often it occurs. item: bytes of an element."""

    block: ClassVar[Block] = DESCRIBE
    item: int

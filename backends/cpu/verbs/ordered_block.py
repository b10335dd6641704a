"""verbs/ordered_driver.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# of x[outer, n, inner] the k first along n, elements of `item` bytes. micro: `sort_keys`. keys, heap: of each thread, `stride`
# bytes apart: n and 2 k int64
TOP_K = Block("x values indices keys micro item outer n inner k heap stride")


class TopK(Kernel, name="top_k"):
    """The k largest or smallest."""

    block: ClassVar[Block] = TOP_K


@dataclass(frozen=True, eq=False)
class ExtremeRow(Kernel, name="extreme_row"):
    """The position of the largest or smallest of a row."""

    prim: str
    last: bool
    dtype_name: str


@dataclass(frozen=True, eq=False)
class ExtremeColumn(Kernel, name="extreme_column"):
    """The same of neighbouring columns."""

    prim: str
    last: bool
    dtype_name: str


@dataclass(frozen=True, eq=False)
class Scan(Kernel, name="scan"):
    """Running sums or products down neighbouring columns."""

    combine: str
    exclusive: bool
    dtype_name: str


@dataclass(frozen=True, eq=False)
class SortKeys(Kernel, name="sort_keys"):
    """Elements as integers of the same order."""

    largest: bool
    dtype_name: str

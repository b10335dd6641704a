"""Copies: an element per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel
from graphc.lower.limits import TABLE_AXES

COPY_DIMS = 8  # loops of one launch
# dims, strides: innermost first, in bytes
COPY_STRIDED = Block(f"grid total x y dims*{COPY_DIMS} x_strides*{COPY_DIMS} y_strides*{COPY_DIMS}")
# tables: of byte offsets, innermost first; dims: how many each has
COPY_TABLES = Block(f"grid total x y fill dims*{TABLE_AXES + 1} tables*{TABLE_AXES + 1}")


@dataclass(frozen=True, eq=False)
class CopyStrided(Kernel, name="copy_strided"):
    """item: bytes of an element. loops: how many there are."""

    block: ClassVar[Block] = COPY_STRIDED
    item: int
    loops: int


@dataclass(frozen=True, eq=False)
class CopyTables(Kernel, name="copy_by_table"):
    """item: bytes of an element. tables: how many there are."""

    block: ClassVar[Block] = COPY_TABLES
    item: int
    tables: int

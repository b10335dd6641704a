"""selection/unique_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# Of x, n elements of `item` bytes: values, the first position, the group of each element, and how often each value occurs;
# total: where the number of values goes. micro: `sort_keys`, ascending. ordered: by value, else by first position. For
# the sort: keys, places, spare_keys, spare_places, n int64 each, and digits
UNIQUE = Block("x item n values first inverse counts total micro ordered keys places spare_keys spare_places digits")

# The same of x[outer, n, inner] along n: values[outer, total, inner], of equal rows the first. keys: int64 [n, outer * inner];
# places, spare_places: n int64 each.
# floats: are they, so that there may be NaN?
UNIQUE_ROWS = Block(
    "x item floats outer n inner values first inverse counts total micro ordered keys places spare_places at number held"
)


class Unique(Kernel, name="unique"):
    """The distinct elements."""

    block: ClassVar[Block] = UNIQUE


class UniqueRows(Kernel, name="unique_rows"):
    """The distinct rows."""

    block: ClassVar[Block] = UNIQUE_ROWS

"""selection/unique_driver.py."""

from __future__ import annotations

from typing import ClassVar

from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# Of x, n elements of `item` bytes: values, the first position, the group of each element, and how often each value occurs;
# total: where the number of values goes. micro: `sort_keys`, ascending. ordered: by value, else by first position. For
# the sort: keys, places, spare_keys, spare_places, n int64 each, and digits
UNIQUE = Block("x item n values first inverse counts total micro ordered keys places spare_keys spare_places digits")


class Unique(Kernel, name="unique"):
    """The distinct elements."""

    block: ClassVar[Block] = UNIQUE

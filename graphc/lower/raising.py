"""Raise: a look-up at a position that there is not, whose report is the error."""

from __future__ import annotations

import numpy as np

from graphc.lower.checks import Refused
from graphc.lower.constants import constant, zero
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers, moved_dtypes
from graphc.lower.verbs import Lookup


@lowers("Raise", supported=moved_dtypes)
def lower_raise(lo: Lowering, group: Group) -> None:
    """The results are zeros."""
    (node,) = group.nodes
    check = Refused.of(node.attrs["error"])
    info = lo.info(group, "gather", "raises an error", check.message.partition("\n")[0])
    beyond = Lookup(constant(lo, np.ones(1, np.int64)), [1], [0], [0], [(1, 0)])
    for v in node.outputs:
        lo.gather(beyond, zero(lo, v.dtype), lo.write(v).ref, v.type.nbytes, check, info)

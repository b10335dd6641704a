"""Within: every number is looked up where it is, at any position of the range."""

from __future__ import annotations

from graphc.lower.checks import OutOfRange
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers
from graphc.lower.verbs import Lookup


@lowers("Within")
def lower_within(lo: Lowering, group: Group) -> None:
    node = group.nodes[0]
    x, y, attrs = lo.read(node.inputs[0]), lo.write(node.output), node.attrs
    t, item = x.type, x.type.dtype.itemsize
    if t.elements == 0:
        return
    lookup = Lookup(x, [t.elements], [item], [item], [(attrs["end"], 0)], negative=False)
    what = attrs["what"]
    check = OutOfRange(
        attrs["of"], node.name, node.source, t.extents, (attrs["end"],), (attrs["where"],), what, negative=False
    )
    lo.gather(lookup, x.ref, y.ref, item, check, lo.info(group, "gather", "checks", what))

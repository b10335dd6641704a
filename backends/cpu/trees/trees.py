"""TreeScores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.cpu.lower.registry import RULES
from graphc.backends.cpu.trees.trees_block import LANES, NARROW_BYTES, TREES, WIDE_BYTES, Trees
from graphc.lower.elementwise import row_major
from graphc.ops.ml import packed

if TYPE_CHECKING:
    from graphc.backends.cpu.lower.lowering import CpuLowering
    from graphc.backends.cpu.target import Target
    from graphc.graph import Node
    from graphc.lower.fuse import Group

assert (packed.LANES, packed.NARROW.itemsize, packed.WIDE.itemsize) == (LANES, NARROW_BYTES, WIDE_BYTES)
CACHED = 16 << 10  # bytes of samples that are walked through a tree before the next one


def _supported(node: Node, target: Target) -> str | None:
    x, nodes = node.inputs[0].type, node.inputs[2].type
    if nodes.shape[1] != (WIDE_BYTES if x.dtype == np.float64 else NARROW_BYTES):
        return f"{x.dtype} and nodes of {nodes.shape[1]} bytes have no kernel"
    return None if node.attrs["to"] in (np.float32, np.float64) else "gives neither float32 nor float64"


@RULES.lowers("TreeScores", supported=_supported)
def lower_trees(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x, slots, nodes, trees = (row_major(lo, lo.read(v)) for v in node.inputs[:4])
    leaves = row_major(lo, lo.read(node.inputs[4])) if node.call.has(4) else None
    y = lo.write(node.output).ref
    (n, features), used, item = x.type.extents, slots.type.extents[0], x.type.dtype.itemsize
    group_bytes = LANES * item * (used + 1)
    groups = max(CACHED // group_bytes, 1)
    rows, stride = lo.scratch(f"{node.output.name}/rows", groups * group_bytes)
    words = TREES(
        x=x.ref, y=y, n=n, features=features, slots=slots.ref, used=used, nodes=nodes.ref, trees=trees.ref,
        count=trees.type.extents[0], leaves=leaves.ref if leaves else 0, outputs=node.attrs["n_targets"], rows=rows,
        stride=stride, tile=groups * LANES,
    )  # fmt: skip
    kernel = Trees(item == 8, leaves is not None, node.attrs["aggregate"], node.attrs["to"] == np.float64)
    lo.emit(kernel, words, lo.info(group, "trees"), writes=[y])

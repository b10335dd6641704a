"""TreeScores."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.trees.trees_block import LANES, NARROW, TREES, WIDE, Trees
from graphc.graph import Node
from graphc.lower.elementwise import row_major
from graphc.lower.fuse import Group
from graphc.ops.ml import packed


def _layout(node: np.dtype, onward: str) -> tuple[int, int, int]:
    assert node.fields is not None
    return node.itemsize, node.fields["slot"][1], node.fields[onward][1]


assert (packed.LANES, _layout(packed.NARROW, "step"), _layout(packed.WIDE, "first")) == (LANES, NARROW, WIDE)


def _supported(node: Node, target: Any = None) -> str | None:
    x, nodes = node.inputs[0].type, node.inputs[2].type
    if nodes.shape[1] != (WIDE if x.dtype == np.float64 else NARROW)[0]:
        return f"{x.dtype} and nodes of {nodes.shape[1]} bytes have no kernel"
    return None if node.attrs["to"] in (np.float32, np.float64) else "gives neither float32 nor float64"


@lowers("TreeScores", supported=_supported)
def lower_trees(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    x, slots, nodes, trees = (row_major(lo, lo.read(v)) for v in node.inputs[:4])
    leaves = row_major(lo, lo.read(node.inputs[4])) if node.call.has(4) else None
    y = lo.write(node.output).ref
    n, features = x.type.extents
    if n == 0:
        return
    words = TREES(
        grid=-(-n // THREADS), n=n, x=x.ref, y=y, features=features, slots=slots.ref, nodes=nodes.ref, trees=trees.ref,
        count=trees.type.extents[0], leaves=leaves.ref if leaves else 0, outputs=node.attrs["n_targets"],
    )  # fmt: skip
    kernel = Trees(
        x.type.dtype == np.float64, leaves is not None, node.attrs["aggregate"], node.attrs["to"] == np.float64
    )
    lo.emit(kernel, words, lo.info(group, str(kernel)), writes=[y])

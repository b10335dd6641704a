"""Pools: max and average of blocked values, the others of dense ones."""

from __future__ import annotations

import numpy as np

from backends.cpu.lower.core import Lowering, is_blocked, lowers
from backends.cpu.lower.dense_window import emit_pool
from backends.cpu.lower.window import five, window_of
from backends.cpu.target import Target
from backends.cpu.toolchain import Kernel
from graphc.fuse import Group
from graphc.graph import Node

DTYPES = frozenset({"float32", "float64", "int8", "uint8"})


def pool_supported(node: Node, target: Target) -> str | None:
    if node.inputs[0].dtype.name not in DTYPES:
        return f"pools have no {node.inputs[0].dtype.name} kernel"
    if node.inputs[0].type.rank > 5:
        return "it has more than three spatial dims"
    return None


def form(node: Node) -> str | None:
    """Blocked, but for what only the plain kernel on dense values does."""
    if node.inputs[0].dtype != np.float32 or len(node.outputs) > 1 or node.op.name == "LpPool":
        return None
    return None if 0 in node.output.shape or 0 in node.inputs[0].shape else "blocked"


@lowers("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", supported=pool_supported)
def lower_pool(lo: Lowering, group: Group) -> None:
    node = group.anchor
    if not is_blocked(node.inputs[0]):
        emit_pool(lo, group)
        return
    w = window_of(node)
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    op = "max" if "Max" in node.op.name else "average"
    xs, ys = five(x), five(y)
    mr = min(8, w.out[2])
    scratch, stride = lo.scratch(node.output.name, 64)
    assert stride == 64
    args = [
        Kernel("pool_row", (op, mr)), Kernel("pool_row", (op, 1)), x.ref, y.ref, w.n, xs[0], ys[0],
        -(-w.channels // lo.target.vl), *w.out, *w.kernel, *w.stride, *w.dilation, *w.pad, *w.size, xs[1], xs[2], xs[3],
        ys[1], ys[2], ys[3], int(bool(node.attrs.get("count_include_pad"))), *w.pad_end, mr, scratch,
    ]  # fmt: skip
    lo.emit(Kernel("pool"), args, lo.info(group, f"pool_{op}"))

"""Pools: max and average of blocked values, the others of dense ones."""

from __future__ import annotations

import numpy as np

from graphc.backends.cpu.conv.dense_window import emit_pool
from graphc.backends.cpu.conv.window import Window, five, window_of
from graphc.backends.cpu.conv.window_block import dhw
from graphc.backends.cpu.integer.byte_pool import emit_byte_pool, takes_bytes, wants_pixels
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import is_blocked, lowers
from graphc.backends.cpu.pool.pool_block import POOL, POOL_ROW, Pool, PoolRow, PoolRun
from graphc.backends.cpu.target import Target
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.sizes import choose, smallest

HIGHEST = 8  # pixels of a tile
MAX_COLUMNS = 7  # of a window, for which a kernel of its own is made
DTYPES = frozenset({"float32", "float64", "int8", "uint8"})


def pool_supported(node: Node, target: Target) -> str | None:
    if node.inputs[0].dtype.name not in DTYPES and not takes_bytes(node):
        return f"pools have no {node.inputs[0].dtype.name} kernel"
    if node.inputs[0].type.rank > 5:
        return "it has more than three spatial dims"
    return None


def form(node: Node, target: Target) -> str | None:
    """Blocked, but for what only the plain kernel on dense values does."""
    if node.inputs[0].dtype != np.float32 or len(node.outputs) > 1 or node.op.name == "LpPool":
        return None
    return None if 0 in node.output.shape or 0 in node.inputs[0].shape else "blocked"


def _tile(w: Window, target: Target) -> tuple[int, bool]:
    """Pixels per tile, and whether its columns are combined first, in registers of their own."""
    inside = (w.size[2] + w.pad[2] - (w.kernel[2] - 1) * w.dilation[2] - 1) // w.stride[2] + 1
    inside -= -(-w.pad[2] // w.stride[2])  # windows without columns outside the image
    registers = target.registers - target.registers // 4
    most = (registers - w.kernel[2]) // w.stride[2] + 1
    limit = inside if w.stride[2] == 1 else smallest(inside, w.out[2])
    if limit > 1 and w.dilation[2] == 1 and w.kernel[2] <= MAX_COLUMNS and most > 1:
        return choose(lambda n: _width(min(most, HIGHEST), n), limit), True
    return choose(lambda n: _width(HIGHEST, n), w.out[2]), False


def _width(most: int, limit: int) -> int:
    """Few widths, so that short rows of many lengths share kernels."""
    while limit < most:
        most = 1 << (most - 1).bit_length() - 1
    return most


@lowers(
    *("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool"),
    supported=pool_supported,
    form=form,
    channels_last=lambda node: "any" if takes_bytes(node) else "",
)
def lower_pool(lo: CpuLowering, group: Group) -> None:
    node = group.anchor
    if len(node.outputs) == 1:
        node.attrs.ignore("storage_order")  # of the indices
    if takes_bytes(node) and wants_pixels(lo, node):
        emit_byte_pool(lo, group)
        return
    if not is_blocked(node.inputs[0]):
        emit_pool(lo, group)
        return
    w = window_of(node)
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    op = "max" if "Max" in node.op.name else "average"
    xs, ys = five(x), five(y)
    mr, run = _tile(w, lo.target)
    wide = PoolRun(op=op, mr=mr, kernel_w=w.kernel[2], stride=w.stride[2]) if run else PoolRow(op, mr)
    scratch, stride = lo.scratch(node.output.name, 8 * POOL_ROW.size)
    args = POOL(
        wide=wide, narrow=PoolRow(op, 1), x=x.ref, y=y.ref, n=w.n, blocks=-(-w.channels // lo.target.vl),
        **dhw("in out k s d p end", w.size, w.out, w.kernel, w.stride, w.dilation, w.pad, w.pad_end),
        padded=int(bool(node.attrs.get("count_include_pad"))),
        xs_n=xs[0], xs_block=xs[1], xs_d=xs[2], xs_h=xs[3], ys_n=ys[0], ys_block=ys[1], ys_d=ys[2], ys_h=ys[3],
        mr=mr, run=int(run), scratch=scratch, stride=stride,
    )  # fmt: skip
    lo.emit(Pool(), args, lo.info(group, f"pool_{op}"), writes=[y.ref])

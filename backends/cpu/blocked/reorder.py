"""Reorder: steps between dense and blocked storage."""

from __future__ import annotations

import math

from graphc.backends.cpu.blocked.reorder_block import REORDER, InterleaveRow, SeparateRow, ToBlocked, ToDense
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.dtypes import FLOAT32
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.storage import Storage, blocked_strides
from graphc.types import TensorType


def _channels_last(node: Node) -> str:
    """Channels that fill their blocks are copied a block of a pixel at a time, where they are innermost on the other side."""
    return "" if not _fills_blocks(node) else "read" if node.output.type.layout else "write"


def _fills_blocks(node: Node) -> bool:
    x, out = node.inputs[0].type, node.output.type
    return x.rank > 2 and x.shape[1] % (out if out.layout else x).blocks.c == 0


@lowers("Reorder", aliases=True, channels_last=_channels_last)
def lower_reorder(lo: CpuLowering, group: Group) -> None:
    (node,) = group.nodes
    x, out = node.inputs[0], node.output
    assert not (x.type.layout and out.type.layout), f"{x.type} -> {out.type}"
    if _fills_blocks(node) and (out.type.layout and lo.strided(x).channels_last or out in lo.channels_last):
        _between_pixels(lo, group, lo.strided(x), lo.write(out))
        return
    source = lo.read(x)
    if x.type.layout and not out.type.layout and same_bytes(x.type) and _is_packed(source):
        lo.place(out, source.ref)
        return
    to = lo.write(out)
    n, channels, *spatial = out.shape  # the logical shape is the same on both sides
    w = spatial[-1] if spatial else 1
    rows = math.prod(spatial[:-1])
    blocked, c = (to, out.type.blocks.c) if out.type.layout else (source, x.type.blocks.c)
    row_stride = blocked.strides[-2] if len(spatial) > 1 else 0
    kernel, micro = (ToBlocked(), InterleaveRow(c)) if out.type.layout else (ToDense(), SeparateRow(c))
    args = REORDER(
        x=source.ref,
        y=to.ref,
        n=n,
        channels=channels,
        c=c,
        rows=rows,
        width=w,
        n_stride=blocked.strides[0],
        block_stride=blocked.strides[1],
        row_stride=row_stride,
        micro=micro,
    )
    lo.emit(kernel, args, lo.info(group, kernel.name, "", f"{x.type} -> {out.type}"), writes=[to.ref])


def _between_pixels(lo: CpuLowering, group: Group, source: Storage, to: Storage) -> None:
    """Where channels are innermost on the dense side: [n, block, *spatial, channel of the block] on both."""
    blocked = to if to.type.layout else source
    c, item = blocked.type.blocks.c, FLOAT32.item
    n, channels, *spatial = group.output.shape
    count = -(-channels // c)

    def strides(s: Storage) -> tuple[int, ...]:
        if s is blocked:
            *outer, pixel = s.strides
            return (*outer, pixel, item)
        image, channel, *pixels = s.strides
        return (image, c * channel, *pixels, channel)

    info = lo.info(group, "copy_strided", "", f"{source.type} -> {to.type}, blocks of pixels")
    lo.copy(source.ref, strides(source), to.ref, strides(to), (n, count, *spatial, c), item, info)


def _is_packed(s: Storage) -> bool:
    """Do the images of a blocked value and their channel blocks follow each other, as those of a part of another value need
    not?"""
    t, strides = s.type, blocked_strides(s.type)
    extents = t.extents[0], -(-t.extents[1] // t.blocks.c)
    return all(d == 1 or a == b for d, a, b in zip(extents, s.strides, strides))


def same_bytes(t: TensorType) -> bool:
    """A blocked tensor of 1x1 images without halo, whose channels fill their blocks, is dense already."""
    layout = t.blocks
    return all(d == 1 for d in t.shape[2:]) and t.shape[1] % layout.c == 0 and not (layout.left or layout.right)

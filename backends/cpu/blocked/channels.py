"""Channels of blocked values in another order or place: Split, Slice, Concat, ChannelShuffle.

Parts that are whole blocks are views. Others are copied, each channel from wherever it is: `map_channels`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.backends.cpu.blocked.blocked_block import (
    MAP_CHANNELS,
    SOURCE_BLOCKS,
    SOURCES,
    GatherLanes,
    MapChannels,
    PermuteLanes,
)
from graphc.backends.cpu.blocked.images import emit_pick, sizes, spatial_rank
from graphc.backends.cpu.conv.window import five
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers, lowers_blocked
from graphc.backends.cpu.sizes import FLOAT_BYTES, padded
from graphc.graph import Node, Value
from graphc.lower import movement
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Storage
from graphc.op import Deferred
from graphc.ops._positions import Positions as Steps
from graphc.ops._positions import Reads
from graphc.ops.movement import Positions, slice_axes, slice_bounds
from graphc.sizes import has_sizes


def map_channels(
    lo: CpuLowering, group: Group, out: Value, operands: Sequence[Value], channels: Sequence[tuple[int, int]]
) -> None:
    """Channel i of `out` is channel channels[i][1] of operand channels[i][0]."""
    vl = lo.target.vl
    sources, y = [lo.read(v) for v in operands], lo.write(out)
    table = [(k, c // vl * sources[k].strides[1] + c % vl * FLOAT_BYTES) for k, c in channels]
    blocks, indices = (
        _source_blocks(table, vl)
        if lo.target.asm
        else (np.zeros((-(-len(table) // vl), SOURCE_BLOCKS.size)), np.zeros(0))
    )
    counts = set(blocks[:, SOURCE_BLOCKS.at["count"]].tolist())
    records = []
    for s in sources:
        n, _, d, h, _ = five(s)
        records.append({"ref": s.ref, "n": n, "d": d, "h": h})
    scratch, stride = lo.scratch(out.name, max(16 * SOURCES, 8 * vl))  # of blocks and their lanes' indices, or of lanes
    args = MAP_CHANNELS(
        **sizes(lo, sources[0], y, out),
        permute=[PermuteLanes(n) if n in counts else 0 for n in range(1, SOURCES + 1)],
        gather=GatherLanes() if 0 in counts else 0,
        channels=len(table),
        scratch=scratch,
        stride=stride,
        sources=constant(lo, blocks.astype(np.int64)).ref,
        lanes=constant(lo, indices.astype(np.int32)).ref,
        single=constant(lo, np.array(table, np.int64)).ref,
        records=records,
    )
    lo.emit(MapChannels(), args, lo.info(group, "map_channels"), writes=[y.ref])


def _source_blocks(table: Sequence[tuple[int, int]], c: int) -> tuple[np.ndarray, np.ndarray]:
    """For each block of c results: which blocks of the operands it draws from, and each lane's number there or -1."""
    count, vector = -(-len(table) // c), c * FLOAT_BYTES
    blocks, indices = np.zeros((count, SOURCE_BLOCKS.size), np.int64), np.full((count, SOURCES, c), -1, np.int32)
    for b in range(count):
        lanes = [(k, at // vector * vector, at % vector // FLOAT_BYTES) for k, at in table[b * c : (b + 1) * c]]
        found = list(dict.fromkeys(lane[:2] for lane in lanes))
        if len(found) > SOURCES:
            continue
        pairs = padded([word for source in found for word in source], 2 * SOURCES)
        blocks[b] = SOURCE_BLOCKS(count=len(found), pairs=pairs)
        for j, (k, block, lane) in enumerate(lanes):
            indices[b, found.index((k, block)), j] = lane
    return blocks, indices


def _whole_blocks(first: int, count: int, total: int, c: int) -> bool:
    """Do `count` channels fill blocks, but for what lies behind the last channel of all?"""
    return first % c == 0 and (count % c == 0 or first + count == total)


def _view(lo: CpuLowering, x: Storage, v: Value, image: int, channel: int) -> None:
    """`v` is what of x begins at an image and a channel."""
    assert v.type.layout == x.type.layout, (v, x.type)
    lo.place(v, x.ref + image * x.strides[0] + channel // x.type.blocks.c * x.strides[1], x.strides)


# --- Split ------------------------------------------------------------------------------------------------------------
def _split_form(node: Node, c: int) -> str | None:
    x = node.inputs[0]
    if node.attrs["axis"] % x.type.rank != 1 or not spatial_rank(x) or not all(map(spatial_rank, node.outputs)):
        return None
    first = 0
    for v in node.outputs:
        if not _whole_blocks(first, v.shape[1], x.shape[1], c):
            return "own"
        first += v.shape[1]
    return "parts"


@lowers_blocked("Split", form=_split_form)
def lower_split(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x = node.inputs[0]
    views, first = _split_form(node, lo.target.vl) == "parts", 0
    for v in node.outputs:
        if views:
            _view(lo, lo.read(x), v, 0, first)
        else:
            map_channels(lo, group, v, [x], [(0, first + i) for i in range(v.shape[1])])
        first += v.shape[1]


# --- Slice ------------------------------------------------------------------------------------------------------------
def _taken(node: Node) -> list[Positions]:
    """The positions of each axis that are taken. Raises Deferred."""
    taken = [Positions(0, d, 1) for d in node.inputs[0].shape]
    for axis, *bounds in slice_axes(node.call):
        taken[axis] = slice_bounds(node.inputs[0].shape[axis], *bounds)
    return taken


def _is_whole(p: Positions, size: int) -> bool:
    """Are all elements of an axis taken, in order?"""
    if has_sizes((p.start, p.stop, size)):
        return p.step == 1 and p.start == 0 and p.stop == size
    return _range(p) == range(size)


def _range(p: Positions) -> range:
    return range(p.start, p.stop, p.step)


def _slice_form(node: Node, c: int) -> str | None:
    x = node.inputs[0]
    if not spatial_rank(x) or not spatial_rank(node.output):
        return None
    try:
        n, channels, *spatial = _taken(node)
    except Deferred:
        return None
    space = not all(map(_is_whole, spatial, x.shape[2:]))
    others = not _is_whole(n, x.shape[0]), not _is_whole(channels, x.shape[1])
    if space or others == (True, True):
        return None if any(others) else "own"
    if channels.step == 1 and n.step == 1 and _whole_blocks(channels.start, channels.count, x.shape[1], c):
        return "parts"
    return None if others[0] else "own"


@lowers_blocked("Slice", form=_slice_form)
def lower_slice(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    x = node.inputs[0]
    n, channels, *spatial = _taken(node)
    if _slice_form(node, lo.target.vl) == "parts":
        _view(lo, lo.read(x), node.output, n.start, channels.start)
    elif not _is_whole(channels, x.shape[1]):
        map_channels(lo, group, node.output, [x], [(0, c) for c in _range(channels)])
    else:
        taken = [Reads(Steps(p.count, p.step, p.start, 1), d) for p, d in zip(spatial, x.shape[2:])]
        emit_pick(lo, group, taken, 0.0, "slice")


# --- Concat -----------------------------------------------------------------------------------------------------------
def _concat_form(node: Node, c: int) -> str | None:
    """Parts that begin inside blocks. (Those that do not are the layout's own business.)"""
    blocks = all(map(spatial_rank, node.operands)) and not any(v.is_const for v in node.operands)
    return "own" if blocks and node.attrs["axis"] % node.output.type.rank == 1 else None


@lowers_blocked("Concat", form=_concat_form)
def lower_concat(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    if all(v.shape[1] % lo.target.vl == 0 for v in node.operands[:-1]):
        movement.lower_concat(lo, group)
        return
    node.attrs.ignore("axis")  # that of channels, else they would not be in blocks
    operands = list(dict.fromkeys(node.operands))
    channels = [(operands.index(v), i) for v in node.operands for i in range(v.shape[1])]
    map_channels(lo, group, node.output, operands, channels)


# --- ChannelShuffle ---------------------------------------------------------------------------------------------------
@lowers_blocked("ChannelShuffle", form=lambda node, c: "own" if spatial_rank(node.output) else None)
def lower_blocked_shuffle(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    groups, total = node.attrs["groups"], node.output.shape[1]
    order = np.arange(total).reshape(groups, -1).T.reshape(-1)
    map_channels(lo, group, node.output, [node.inputs[0]], [(0, int(c)) for c in order])


@lowers("ChannelShuffle", supported=native_dtypes, channels_last=lambda node: "any")
def lower_shuffle(lo: CpuLowering, group: Group) -> None:
    """A transposition of the dims [n, groups, channels of a group, pixels], pixels first where channels are innermost."""
    node = group.nodes[0]
    x, y = lo.strided(node.inputs[0]), lo.write(node.output)
    groups, (n, channels, *spatial) = node.attrs["groups"], node.output.shape
    own, rank = channels // groups, len(spatial)
    shape = [n, own, groups, *spatial]
    xs = [x.strides[0], x.strides[1], own * x.strides[1], *x.strides[2:]]
    ys = [y.strides[0], groups * y.strides[1], y.strides[1], *y.strides[2:]]
    order = [0, *range(3, 3 + rank), 1, 2] if y.channels_last else range(3 + rank)
    shape, xs, ys = ([dims[i] for i in order] for dims in (shape, xs, ys))
    lo.copy(x.ref, xs, y.ref, ys, shape, y.type.dtype.itemsize, lo.info(group, "copy_strided"))

"""ConvBytes and ConvPairs: register tiles of four bytes a step, of bytes or of bfloat16, and what follows the sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from graphc import expr
from graphc.backends.cpu.conv.window import Window, window_of
from graphc.backends.cpu.integer.byte_conv_block import (
    BYTE_CONV,
    BYTE_DEPTHWISE,
    MAX_OPERANDS,
    ByteConv,
    ByteConvTile,
    ByteDepthwise,
    ByteDepthwiseRow,
    begins_bytes,
    tile_bytes,
)
from graphc.backends.cpu.integer.numbers import kind_of, simplified, small_operands, with_numbers
from graphc.backends.cpu.integer.pixels import Pixels, finish, read_pixels, read_window, write_pixels
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.byte_tile_micro import BASES, dot_of_bytes, free_registers
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BYTES, FMA, NARROW, PAIRS, SHIFT, SHIFTED, Dot
from graphc.backends.cpu.tile.tile_micro import max_rows
from graphc.backends.cpu.tile.tile_model import PRODUCT, efficiency
from graphc.expr import Expr
from graphc.graph import Node, Value
from graphc.lower.constants import constant
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref
from graphc.sizes import hint_of, need

VARYING = ("v", "p")  # kinds of operands that differ from pixel to pixel
DESCRIBED = {**dict.fromkeys((BYTES, SHIFTED, NARROW), ("bytes", "bytes")), PAIRS: ("bfloat16", "numbers")}
WIDEST, TALLEST = 8, 3 * BASES  # vectors and rows of a tile, whose rows have pointers in few registers
TAPS = 2**24 // (255 * 128)  # of a window of one channel, whose sum is exact in float32


def supported(node: Node, target: Target) -> str | None:
    w = node.inputs[1]
    if not w.is_const:
        return "its weights are computed at run time"
    if node.output.type.rank > 4:
        return "it has more than two spatial dims"
    if 0 in node.output.shape or 0 in node.inputs[0].shape or 0 in w.shape:
        return "it has no elements"
    window = window_of(node)
    return "it has negative padding" if any(p < 0 for p in (*window.pad, *window.pad_end)) else None


def is_depthwise(node: Node) -> bool:
    channels, filters = node.inputs[0].shape[1], node.inputs[1].shape[0]
    exact = node.op.name == "ConvPairs" or math.prod(node.inputs[1].shape[2:]) <= TAPS
    return channels == filters == node.attrs["group"] and exact


def operand_kind(v: Value, out: Value) -> str:
    """As `Operand.kind`, '' for other shapes."""
    shape = (1,) * (out.type.rank - v.type.rank) + v.shape
    if shape == out.shape:
        return "v"
    if all(d == 1 for d in shape):
        return "s"
    if shape[1] == 1 and (shape[0], *shape[2:]) == (out.shape[0], *out.shape[2:]):
        return "p"
    return "c" if shape[1] == out.shape[1] and all(d == 1 for i, d in enumerate(shape) if i != 1) else ""


def accepts_operand(v: Value, out: Value) -> str | None:
    """Which operands the epilogue can read."""
    if v.type.layout is not None:
        return "it is blocked"
    return (
        None if operand_kind(v, out) else f"shape {v.shape} is neither the result's nor one number per channel or pixel"
    )


def pairs_supported(node: Node, target: Target) -> str | None:
    if not target.dots_bfloat16 or node.inputs[0].dtype.name != "bfloat16":
        return f"{target} has no pairs of {node.inputs[0].dtype.name}"
    return supported(node, target)


@lowers(
    "ConvPairs",
    supported=pairs_supported,
    epilogue=lambda node: True,
    converts=accepts_operand,
    channels_last=lambda node: "any",
)
def lower_pair_conv(lo: CpuLowering, group: Group) -> None:
    _emit(lo, group, PAIRS, constant(lo, np.zeros(1, np.uint8)).ref)


@lowers(
    "ConvBytes",
    supported=supported,
    epilogue=lambda node: True,
    converts=accepts_operand,
    channels_last=lambda node: "any",
)
def lower_byte_conv(lo: CpuLowering, group: Group) -> None:
    fill = group.anchor.inputs[2]
    lo.idle.add(fill)  # where there is no border
    _emit(lo, group, dot_of_bytes(lo.target, group.anchor.inputs[1]), lo.read(fill).ref)


def _emit(lo: CpuLowering, group: Group, dot: Dot, fill: Ref) -> None:
    """fill: a byte that those of the border are."""
    node = group.anchor
    w = window_of(node)
    depthwise = is_depthwise(node)
    groups = node.attrs["group"]
    cut, depth = (1, 1) if depthwise else (groups, dot.k)
    x, width = read_window(lo, node.inputs[0], w, cut, depth, fill)
    y, own = write_pixels(lo, group.output)
    given, tree = _varying_first(group)
    tree, numbers = with_numbers(tree, len(given), MAX_OPERANDS)
    operands = [_operand(lo, v, group.output) for v in given]
    operands += [Operand(n.dtype, kind_of(n), Pixels(constant(lo, n).ref, 0, 0, 0)) for n in numbers]
    if depthwise:
        _emit_depthwise(lo, group, dot, w, x, y, tree, operands)
    else:
        _emit_tiles(lo, group, dot, w, x, width, y, tree, operands)
    finish(lo, group, own)


def _varying_first(group: Group) -> tuple[list[Value], Expr | None]:
    """The operands of its epilogue, those first that differ from pixel to pixel, and the simplified expression."""
    tree = simplified(group.expression, small_operands(group))
    order = sorted(
        range(len(group.operands)), key=lambda i: operand_kind(group.operands[i], group.output) not in VARYING
    )
    if tree is not None:
        args = [expr.arg(0, group.anchor.output.dtype)] * (1 + len(order))
        for to, i in enumerate(order):
            args[1 + i] = expr.arg(1 + to, group.operands[i].dtype)
        tree = expr.substitute(tree, args)
    return [group.operands[i] for i in order], tree


@dataclass(frozen=True)
class Operand:
    """Of an epilogue. kind: 's' one number, 'c' one per channel, 'p' one per pixel, 'v' one per element, 't' a table."""

    dtype: np.dtype
    kind: str
    pixels: Pixels

    @property
    def record(self) -> dict[str, Any]:
        p = self.pixels
        channel = 0 if self.kind in "spt" else self.dtype.itemsize
        return {"ref": p.ref, "n": p.n, "row": p.row, "pixel": p.pixel, "channel": channel}


def _operand(lo: CpuLowering, v: Value, out: Value) -> Operand:
    kind = operand_kind(v, out)
    assert kind, v
    pixels = read_pixels(lo, v, out.type.rank) if kind in VARYING else Pixels(lo.read(v).ref, 0, 0, 0)
    return Operand(v.dtype, kind, pixels)


# --- tiles ------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=4096)
def tile_of(target: Target, pixels: int, vectors: int) -> tuple[int, int]:
    """(rows, vectors): the share of a tile's work that is not done twice, times the share of the peak that it reaches."""
    free = replace(target, registers=free_registers(target))

    def worth(mr: int, nv: int) -> float:
        rows = pixels / (-(-pixels // mr) * mr)
        columns = vectors / (-(-vectors // nv) * nv)
        return efficiency(free, mr, nv, PRODUCT) * rows * columns**0.5

    tiles = [
        (mr, nv)
        for nv in range(1, min(WIDEST, vectors) + 1)
        for mr in range(1, min(max_rows(free, nv), TALLEST, pixels) + 1)
    ]
    return max(tiles, key=lambda tile: (worth(*tile), tile))


def _emit_tiles(
    lo: CpuLowering,
    group: Group,
    dot: Dot,
    w: Window,
    x: Pixels,
    width: int,
    y: Pixels,
    tree: Expr | None,
    operands: Sequence[Operand],
) -> None:
    node, vl = group.anchor, lo.target.vl
    groups = node.attrs["group"]
    (_, kh, kw), (_, sh, sw), (_, dh, dw) = w.kernel, w.stride, w.dilation
    (_, height, columns), (_, out_h, out_w) = w.size, w.out
    item = group.output.dtype.itemsize
    flat = (kh, kw, sh, sw) == (1, 1, 1, 1) and x.follows(height, columns) and y.follows(height, columns)
    flat = flat and all(o.kind not in VARYING or o.pixels.follows(height, columns) for o in operands)
    rows, pixels = (1, w.n * w.pixels) if flat else (w.n * out_h, out_w)
    channels = w.out_channels // groups
    vectors = -(-channels // vl)
    mr, nv = tile_of(lo.target, hint_of(pixels), vectors)
    need(pixels >= mr)
    panels, last_nv = -(-vectors // nv), (vectors - 1) % nv + 1
    last_lanes = (channels - 1) % vl + 1
    across = width * dot.a.item  # bytes of a group of channels
    together = dw == 1 and groups == 1 and x.pixel == across  # columns of a window follow each other
    runs, run = (1, kw * width) if together else (kw, width)
    steps = run // dot.k
    kinds = tuple((o.dtype.name, o.kind) for o in operands)

    def tile(nv: int, masked: bool) -> ByteConvTile:
        return ByteConvTile(dot.name, mr, nv, masked, tree, kinds)

    wide, edge = tile(nv, False), tile(last_nv, last_lanes < vl)
    part = lo.rows_per_work_unit(-(-pixels // mr), groups * panels * rows) * mr
    scratch, stride = lo.scratch(group.output.name, tile_bytes())
    args = BYTE_CONV(
        wide=wide, edge=edge, x=x.ref, w=_weights(lo, node, dot, width, nv), y=y.ref, rows=rows, out_h=out_h, pixels=pixels,
        part=part,
        x_n=x.n, x_row=sh * x.row, x_pixel=sw * x.pixel, x_group=across, y_n=y.n, y_row=y.row, y_pixel=y.pixel,
        y_group=channels * item, groups=groups, channels=channels, panels=panels,
        panel=kh * runs * steps * dot.weights(nv * vl) + begins_bytes(dot, nv * vl),
        mr=mr, nv=nv, last_nv=last_nv, last_lanes=last_lanes, window=kh, runs=runs, steps=steps, x_h=dh * x.row,
        x_run=dw * x.pixel, y_vector=vl * item, scratch=scratch, stride=stride, operands=len(operands),
        varying=sum(o.kind in VARYING for o in operands), records=[o.record for o in operands],
    )  # fmt: skip
    what, elements = DESCRIBED[dot]
    info = lo.info(group, str(wide), what, f"tile {mr}x{nv}, {kh * runs * steps} steps of {dot.k} {elements}")
    lo.emit(ByteConv(), args, dot.told(info, node.inputs[1]), writes=[y.ref])


def _weights(lo: CpuLowering, node: Node, dot: Dot, width: int, nv: int) -> Ref:
    """For each group its panels [row of the window][column][step][lane][dot.k]; zeros where there is no channel. A panel of SHIFTED
    begins with what its sums begin with."""
    source, groups, vl = node.inputs[1].data, node.attrs["group"], lo.target.vl

    def make() -> np.ndarray:
        filters, depth, *kernel = source.shape
        kernel = [1] * (2 - len(kernel)) + kernel
        channels = filters // groups
        lanes = -(-channels // vl) * vl
        padded = np.zeros((groups, lanes, *kernel, width), dot.b.numpy)
        moved = np.moveaxis(source.reshape(groups, channels, depth, *kernel), 2, -1)
        padded[:, :channels, ..., :depth] = moved
        steps = dot.pack(np.moveaxis(padded, 1, -1))  # [group, kh, kw, step, lane, k]
        parts = []
        for g in range(groups):
            for panel in (slice(at, at + nv * vl) for at in range(0, lanes, nv * vl)):
                if dot is SHIFTED:
                    parts.append((SHIFT * padded[g, panel].sum((1, 2, 3), dtype=np.int32)).view(np.int8))
                parts.append(steps[g, ..., panel, :].reshape(-1))
        return np.concatenate(parts)

    return Ref(lo.weights.pack(source, ("byte conv", groups, width, nv, vl, *dot.recipe), make))


# --- each channel by itself -------------------------------------------------------------------------------------------
def _emit_depthwise(
    lo: CpuLowering,
    group: Group,
    dot: Dot,
    w: Window,
    x: Pixels,
    y: Pixels,
    tree: Expr | None,
    operands: Sequence[Operand],
) -> None:
    node, vl = group.anchor, lo.target.vl
    (_, kh, kw), (_, sh, sw), (_, dh, dw) = w.kernel, w.stride, w.dilation
    _, out_h, out_w = w.out
    item = group.output.dtype.itemsize
    blocks, last_lanes = -(-w.channels // vl), (w.channels - 1) % vl + 1
    x_h = dh * x.row
    if (out_h, out_w, dw) == (1, 1, 1) and (kh == 1 or x_h == kw * x.pixel):  # one window: its rows follow each other
        kh, kw, x_h = kh * kw, 1, x.pixel
    mr = _depthwise_rows(lo.target, hint_of(out_w), kw)
    need(out_w >= mr)
    source = node.inputs[1].data

    def make() -> np.ndarray:
        data = np.zeros((blocks * vl, kh, kw), np.float32)
        data[: w.channels] = source.reshape(w.channels, kh, kw)
        return data.reshape(blocks, vl, kh, kw).transpose(0, 2, 3, 1)

    kinds = tuple((o.dtype.name, o.kind) for o in operands)

    def row(masked: bool) -> ByteDepthwiseRow:
        return ByteDepthwiseRow(dot.name, mr, kw, sw, dw, masked, tree, kinds)

    scratch, stride = lo.scratch(group.output.name, tile_bytes())
    args = BYTE_DEPTHWISE(
        wide=row(False), edge=row(last_lanes < vl), x=x.ref, w=Ref(lo.weights.pack(source, ("byte depthwise", vl), make)),
        y=y.ref, rows=w.n * out_h, out_h=out_h, pixels=out_w, blocks=blocks, last_lanes=last_lanes,
        x_n=x.n, x_row=sh * x.row, x_h=x_h, x_pixel=x.pixel, x_step=sw * x.pixel, x_vector=vl * dot.a.item,
        y_n=y.n, y_row=y.row, y_pixel=y.pixel, y_vector=vl * item, window=kh, w_block=kh * kw * lo.target.vector, mr=mr,
        scratch=scratch, stride=stride, operands=len(operands),
        varying=sum(o.kind in VARYING for o in operands), records=[o.record for o in operands],
    )  # fmt: skip
    info = lo.info(
        group, str(row(False)), f"{DESCRIBED[dot][0]}, depthwise", f"one input channel per group; {mr} pixels per tile"
    )
    lo.emit(ByteDepthwise(), args, FMA.told(info, node.inputs[1]), writes=[y.ref])


def _depthwise_rows(target: Target, pixels: int, kernel_w: int) -> int:
    """Pixels of a tile, each with an accumulator; few of them are computed twice."""
    most = max(1, min(pixels, target.registers - kernel_w - 3, 8))
    return min(range(1, most + 1), key=lambda mr: (-(-pixels // mr) * (mr + 1), -mr))

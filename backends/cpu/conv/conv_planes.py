"""Convolutions from planes to few output channels: pixels in the lanes (see conv/conv_planes_micro.py)."""

from __future__ import annotations

import math

from graphc.backends.cpu.conv.conv_block import CONV, Conv
from graphc.backends.cpu.conv.conv_row_block import (
    BLOCK_BYTES,
    CONV_ROW,
    EPILOGUE_OPERAND_SIZE,
    MAX_EPILOGUE_OPERANDS,
    MAX_HEIGHTS,
    MAX_SOURCES,
    OPERAND,
    ConvPlanesRow,
)
from graphc.backends.cpu.conv.window import Epilogue, Window, bias_of, five
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.tiles import heights_of
from graphc.dtypes import FLOAT32
from graphc.graph import Node
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref
from graphc.sizes import choose

ENOUGH = 8  # sums that hide the latency of the multiply-add
MAX_COLUMNS = 7  # of a window, for which a kernel of its own is made
FEW = 4  # input channels that are read from planes by all kernels
LARGE = 9  # positions of a window for which blocks of channels are taken apart
FEWEST = 9  # products of a sum: with less, storing vectors of pixels as pixels of channels is most of the work


def serves(group: Group, w: Window, target: Target) -> bool:
    """Is its input planar, so that it pays to have pixels in the lanes?"""
    return group.anchor.inputs[0].type.blocks.c == 1 and fits(w, target) and not group.operands


def fits(w: Window, target: Target) -> bool:
    """Do vectors of pixels make its few output channels?"""
    few, enough = w.out_channels <= target.vl // 2, w.channels * math.prod(w.kernel) >= FEWEST
    return few and enough and w.out[2] >= target.vl and w.stride[2] == 1


def wants_planes(w: Window, target: Target) -> bool:
    """Is it worth to take the blocks of many input channels apart? Each element is read for enough products."""
    return fits(w, target) and math.prod(w.kernel) >= LARGE


def takes_no_operands(node: Node) -> bool:
    """Is it a convolution of many planes, whose epilogue has no other operands? Other kernels take blocks."""
    layout = node.inputs[0].type.layout
    return node.op.name == "Conv" and layout is not None and layout.c == 1 and node.inputs[0].shape[1] > FEW


def _vectors(target: Target, channels: int, pixels: int) -> int:
    """Vectors of pixels at a time: the fewest passes over a row that registers allow, with vectors done twice counted."""
    in_row = -(-pixels // target.vl)
    most = max(1, (target.registers - 2) // (channels + 1))
    return min(
        (v for v in (1, 2, 4, *heights_of(most)) if v <= min(most, in_row)),  # few kernels for all widths
        key=lambda v: -(-in_row // v) * max(v * channels, ENOUGH) + v / 100,
    )


def emit_planes(lo: CpuLowering, group: Group, w: Window, reason: str, epilogue: Epilogue) -> None:
    node = group.anchor
    x, y = lo.read(node.inputs[0]), lo.write(group.output)
    data, shape = node.inputs[1].data, (w.out_channels, w.channels, *w.kernel)
    weights = lo.weights.pack(data, ("conv planes", shape), lambda: data.reshape(shape).transpose(1, 2, 3, 4, 0))
    bias = channel_vector(lo, bias_of(node), w.out_channels, 1)
    xs, ys = five(x), five(y)
    kd, kh, kw = w.kernel
    ws_w = FLOAT32.item * w.out_channels
    ws_h, ws_d, ws_block = kw * ws_w, kh * kw * ws_w, kd * kh * kw * ws_w
    out_d, out_h, out_w = w.out
    vectors = choose(lambda pixels: _vectors(lo.target, w.out_channels, pixels), out_w)
    columns = kw if kw <= MAX_COLUMNS and w.dilation[2] == 1 else 0
    micro = ConvPlanesRow(channels=w.out_channels, vectors=vectors, columns=columns, epilogue=epilogue.expression)
    scratch, stride = lo.scratch(group.output.name, BLOCK_BYTES)
    rows = lo.rows_per_work_unit(out_h, w.n * out_d)
    lower, upper = epilogue.bounds
    template = CONV_ROW(
        blocks=w.channels, kernel_w=kw, pixels=out_w, lo=lower, hi=upper,
        xs_block=xs[1], xs_d=xs[2] * w.dilation[0], xs_h=xs[3] * w.dilation[1], xs_w=xs[4] * w.dilation[2],
        ws_block=ws_block, ws_d=ws_d, ws_h=ws_h, ys_w=ys[4], ys_block=ys[1],
        epilogue_operands=[0] * (EPILOGUE_OPERAND_SIZE * MAX_EPILOGUE_OPERANDS),
        coming=0, coming_step=0, tiles=[0] * MAX_HEIGHTS, continues=0, partial=0,
        first_lane=0, lanes=0, input_first=0, input_end=0, sources=[0] * (OPERAND * MAX_SOURCES),
    )  # fmt: skip
    args = CONV(
        micro=micro, x=x.ref + (-w.pad[2]) * xs[4], w=Ref(weights), bias=Ref(bias), y=y.ref,
        n=w.n, tiles=1, nv=0, out_d=out_d, out_h=out_h, out_w=out_w, in_d=w.size[0], in_h=w.size[1],
        k_d=kd, k_h=kh, s_d=w.stride[0], s_h=w.stride[1], d_d=w.dilation[0], d_h=w.dilation[1], p_d=w.pad[0], p_h=w.pad[1],
        xs_n=xs[0], xs_block=xs[1], xs_d=xs[2], xs_h=xs[3], ys_n=ys[0], ys_d=ys[2], ys_h=ys[3],
        ws_tile=0, ws_block=ws_block, ws_d=ws_d, ws_h=ws_h,
        rows=rows, last_pixels=out_w, last_tiles=[0] * MAX_HEIGHTS, spans=0, chunk=w.channels, row_coming=0,
        scratch=scratch, stride=stride, epilogue_operands=0, template=template,
    )  # fmt: skip
    lo.emit(Conv(), args, lo.info(group, str(micro), "direct", f"{reason}; pixels in the lanes"), writes=[y.ref])

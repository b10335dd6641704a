"""Depthwise convolution: packing and the step."""

from __future__ import annotations

import numpy as np

from graphc.backends.cpu.conv.depthwise_block import DEPTHWISE, DEPTHWISE_ROW, Depthwise, DepthwiseRow
from graphc.backends.cpu.conv.window import Epilogue, EpilogueOperand, Window, bias_of, five
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.tile_model import DEPTHWISE as LOOP
from graphc.backends.cpu.tile.tile_model import cost
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref
from graphc.sizes import choose, is_size

ALIKE = 0.95  # of the cost of the highest tiles, that lower ones must save to be taken
SHORT = 1, 2, 3, 4, 5, 6, 7  # heights of tiles of short rows whose pixels stand for many


def emit_depthwise(
    lo: CpuLowering, group: Group, w: Window, epilogue: Epilogue, epilogue_operands: list[EpilogueOperand]
) -> None:
    node, out = group.anchor, group.output
    x, y = lo.read(node.inputs[0]), lo.write(out)
    vl = lo.target.vl
    xs, ys = five(x), five(y)
    _, kh, kw = w.kernel
    blocks = -(-w.channels // vl)
    mr = row_tile(lo.target, w.out[2])

    def make() -> np.ndarray:
        data = np.zeros((blocks * vl, kh, kw), x.type.dtype)
        data[: w.channels] = node.inputs[1].data.reshape(w.channels, kh, kw)
        return data.reshape(blocks, vl, kh, kw).transpose(0, 2, 3, 1)

    weights = lo.weights.pack(node.inputs[1].data, ("depthwise", vl), make)
    bias = channel_vector(lo, bias_of(node), w.channels, vl)
    micro = DepthwiseRow(mr=mr, kernel_w=kw, stride=w.stride[2], dilation=w.dilation[2], epilogue=epilogue.expression)
    words = DEPTHWISE_ROW.size + DEPTHWISE_ROW.record_size * max(1, len(epilogue_operands))
    scratch, stride = lo.scratch(out.name, 8 * words)
    lower, upper = epilogue.bounds
    args = DEPTHWISE(
        micro=micro, x=x.ref + (-w.pad[2]) * xs[4], w=Ref(weights), bias=Ref(bias), y=y.ref,
        n=w.n, blocks=blocks, pixels=w.out[2], out_h=w.out[1],
        k_h=kh, s_h=w.stride[1], d_h=w.dilation[1], p_h=w.pad[1], in_h=w.size[1],
        xs_n=xs[0], xs_block=xs[1], xs_h=xs[3], ys_n=ys[0], ys_block=ys[1], ys_h=ys[3],
        ws_block=kh * kw * lo.target.vector, ws_h=kw * lo.target.vector, lo=lower, hi=upper, scratch=scratch, stride=stride,
        epilogue_operands=len(epilogue_operands),
        records=[
            dict(zip(("ref", "n", "block", "h", "pixel"), (e.ref, *e.strides[:2], *e.strides[3:])))
            for e in epilogue_operands
        ],
    )  # fmt: skip
    lo.emit(
        Depthwise(),
        args,
        lo.info(group, str(micro), "depthwise", f"one input channel per group; {mr} pixels per tile"),
        writes=[y.ref],
    )


def row_tile(target: Target, pixels: int) -> int:
    """Pixels per tile, of which each has an accumulator and an input, that waste least in the overlap of a row's last tile. So that long rows share few kernels
    they have no low tiles, and lower ones than the highest only where that costs clearly more."""
    most = target.pairs
    if is_size(pixels):
        return _row_tile_of_many(target, pixels)
    lowest = 1 if pixels < 2 * most else most - most // 4 if pixels < 4 * most else most - 1

    def total(mr: int) -> float:
        return -(-pixels // mr) * cost(target, mr, 1, LOOP)

    best = min(range(lowest, min(pixels, most) + 1), key=lambda mr: (total(mr), -mr))
    return most if pixels > most and ALIKE * total(most) <= total(best) else best


def _row_tile_of_many(target: Target, pixels: int) -> int:
    """The same among few tiles, for rows whose pixels stand for many."""
    most = target.pairs
    tiles = sorted({most, most - most // 8, most - most // 4, *(h for h in SHORT if h < most)})

    def best(n: int) -> int:
        return min((t for t in tiles if t <= n), key=lambda mr: (-(-n // mr) * cost(target, mr, 1, LOOP), -mr))

    return choose(best, pixels)

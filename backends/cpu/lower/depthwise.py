"""Depthwise convolution: packing and the step."""

from __future__ import annotations

import numpy as np

from graphc.backends.cpu.blocks.depthwise import DEPTHWISE
from graphc.backends.cpu.kernel import Kernel
from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.window import Epilogue, Extra, Window, channel_vector, five
from graphc.backends.cpu.micro.depthwise import slots
from graphc.backends.cpu.storage import Ref
from graphc.fuse import Group

ALIKE = 0.95  # of the cost of the highest tiles, that lower ones must save to be taken


def emit_depthwise(lo: Lowering, group: Group, w: Window, epilogue: Epilogue, extras: list[Extra]) -> None:
    node, out = group.anchor, group.output
    x, y = lo.read(node.inputs[0]), lo.write(out)
    vl = lo.target.vl
    xs, ys = five(x), five(y)
    _, kh, kw = w.kernel
    blocks = -(-w.channels // vl)
    mr = row_tile(w.out[2], 14 if lo.target.registers == 32 else 6)

    def make() -> np.ndarray:
        data = np.zeros((blocks * vl, kh, kw), np.float32)
        data[: w.channels] = node.inputs[1].data.reshape(w.channels, kh, kw)
        return data.reshape(blocks, vl, kh, kw).transpose(0, 2, 3, 1)

    weights = lo.weights.pack(node.inputs[1].data, ("depthwise", vl), make)
    bias = channel_vector(lo, node.inputs[2].data if len(node.inputs) > 2 and node.inputs[2] else None, w.channels, vl)
    micro = Kernel("depthwise_row", (mr, kw, w.stride[2], w.dilation[2], epilogue.expression))
    scratch, stride = lo.scratch(out.name, 8 * slots(len(extras)))
    lower, upper = epilogue.bounds
    args = DEPTHWISE(
        micro=micro, x=x.ref + (-w.pad[2]) * xs[4], w=Ref(weights), bias=Ref(bias), y=y.ref,
        n=w.n, blocks=blocks, pixels=w.out[2], out_h=w.out[1],
        k_h=kh, s_h=w.stride[1], d_h=w.dilation[1], p_h=w.pad[1], in_h=w.size[1],
        xs_n=xs[0], xs_block=xs[1], xs_h=xs[3], ys_n=ys[0], ys_block=ys[1], ys_h=ys[3],
        ws_block=kh * kw * vl * 4, ws_h=kw * vl * 4, lo=lower, hi=upper, scratch=scratch, stride=stride, extras=len(extras),
        records=[dict(zip(("ref", "n", "block", "h", "pixel"), (e.ref, *e.strides[:2], *e.strides[3:]))) for e in extras],
    )  # fmt: skip
    lo.emit(
        Kernel("depthwise"),
        args,
        lo.info(group, str(micro), "depthwise", f"one input channel per group; {mr} pixels per tile"),
    )


def row_tile(pixels: int, most: int) -> int:
    """Pixels per tile, at most `most`, that waste least in the overlap of a row's last tile. So that long rows share few kernels
    they have no low tiles, and lower ones than the highest only where that costs clearly more."""
    lowest = 1 if pixels < 2 * most else most - most // 4 if pixels < 4 * most else most - 1

    def cost(mr: int) -> int:
        return -(-pixels // mr) * (mr + 2)

    best = min(range(lowest, min(pixels, most) + 1), key=lambda mr: (cost(mr), -mr))
    return most if pixels > most and ALIKE * cost(most) <= cost(best) else best

"""Winograd layers: the transformed weights, the step."""

from __future__ import annotations

import numpy as np

from graphc.backends.cpu.conv.conv_row_block import ConvRow
from graphc.backends.cpu.conv.window import Epilogue, EpilogueOperand, Window, bias_of, five
from graphc.backends.cpu.conv.winograd_block import WINOGRAD, Winograd, WinogradIn, WinogradOut
from graphc.backends.cpu.conv.winograd_groups import grouping, groups_of
from graphc.backends.cpu.conv.winograd_micro import HEAD_BYTES
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.policy import Choice
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.tile.dot import FMA
from graphc.backends.cpu.tile.tiles import fetches, lines_ahead
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.kernel import one_of
from graphc.lower.storage import Buffer, Ref


def emit_winograd(
    lo: CpuLowering,
    group: Group,
    w: Window,
    choice: Choice,
    epilogue: Epilogue,
    epilogue_operands: list[EpilogueOperand],
) -> None:
    node, out = group.anchor, group.output
    x, y = lo.read(node.inputs[0]), lo.write(out)
    m = choice.algorithm.tile
    vl = lo.target.vl
    vector = lo.target.vector
    points = (m + 2) ** 2
    blocks, out_blocks = w.channels // vl, w.out_channels // vl
    usual = grouping(w, m, lo.target, lo.threads)  # of the example
    g, nv = groups_of(w, m, lo.target, lo.threads), usual.nv
    weights = transformed_weights(lo, node.inputs[1].data, m, nv)
    bias = channel_vector(lo, bias_of(node), w.out_channels, vl)
    zeros = channel_vector(lo, None, 8 * vl, vl)
    space = HEAD_BYTES + points * vector + points * vector * (_odd(blocks * g.count) + _odd(nv * g.count))
    scratch, stride = lo.scratch(out.name, space)
    lines = lines_ahead(
        lo.target, nv * vl * vector // CACHE_LINE, usual.rows.tiles, points * blocks * out_blocks * vl * vector
    )
    xs, ys = five(x), five(y)
    lower, upper = epilogue.bounds
    gemms = [
        ConvRow(
            heights=heights, nv=nv, xm=vl, xu=1, depth=vl, epilogue=None, masked=False, lines=fetches(lines), in_parts=False,
            group=0, prologue=None, ragged=False,
        )
        for heights in g.kernels
    ]  # fmt: skip
    args = WINOGRAD(
        transform_in=WinogradIn(m), gemm=one_of(g.kernel, gemms), transform_out=WinogradOut(m, epilogue.expression),
        x=x.ref, u=Ref(weights), bias=Ref(bias), y=y.ref, zeros=Ref(zeros), n=w.n, blocks=blocks, tiles=out_blocks // nv,
        out_h=w.out[1], out_w=w.out[2], in_h=w.size[1], in_w=w.size[2], pad_h=w.pad[1], pad_w=w.pad[2],
        xs_n=xs[0], xs_block=xs[1], xs_h=xs[3], ys_n=ys[0], ys_block=ys[1], ys_h=ys[3],
        group=g.count, parts=g.parts, nv=nv, rows=g.rows, rest=g.rest, rest_rows=g.rest_rows,
        coming_bytes=lines * CACHE_LINE, lo=lower, hi=upper, scratch=scratch, scratch_stride=stride,
        epilogue_operands=len(epilogue_operands),
        records=[dict(zip(("ref", "n", "block", "h", "pixel"), (e.ref, *e.strides[:2], *e.strides[3:]))) for e in epilogue_operands],
    )  # fmt: skip
    info = lo.info(
        group,
        f"winograd_{m}",
        choice.algorithm,
        f"{choice.reason}; {usual.count} tiles per group{f' in {usual.parts} parts' if usual.parts > 1 else ''}, "
        f"register tile {usual.rows.heights[0]}x{nv}",
    )
    lo.emit(Winograd(m), args, info, writes=[y.ref])


def _odd(n: int) -> int:
    """n, or the next number."""
    return n // 2 * 2 + 1


def transformed_weights(lo: CpuLowering, data: np.ndarray, m: int, nv: int) -> Buffer:
    """U = G g G^T, [O, I, 3, 3] -> [tile][point][input block][c][nv * c], in the order of use; in float64."""
    vl = lo.target.vl

    def make() -> np.ndarray:
        from graphc.backends.cpu.conv.winograd_micro import matrices

        g = np.array([[float(v) for v in row] for row in matrices(m)[1]])
        o, i = data.shape[:2]
        transform = np.kron(g, g)  # one product for both sides
        width, inputs = nv * vl, i // vl
        u = np.empty((o // width, transform.shape[0], inputs, vl, width), FMA.b.numpy)
        for tile in range(o // width):  # a tile at a time: float64 copies of all weights would be gigabytes
            part = data[tile * width : (tile + 1) * width].reshape(width * i, 9).T.astype(np.float64)
            u[tile] = (transform @ part).reshape(-1, width, inputs, vl).transpose(0, 2, 3, 1)
        return u

    return lo.weights.pack(data, ("winograd", m, nv, vl), make)

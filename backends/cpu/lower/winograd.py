"""Winograd layers: when it pays, the transformed weights, the step."""

from __future__ import annotations

import numpy as np

from backends.cpu.lower.core import Lowering
from backends.cpu.lower.tiles import best_tile
from backends.cpu.lower.window import Epilogue, Extra, Window, channel_vector, five
from backends.cpu.program import Ref
from backends.cpu.target import Target
from backends.cpu.toolchain import Kernel
from graphc.fuse import Group

HEAD_BYTES = 1024  # of scratch, before the temporary tile: see drivers/winograd.py


def choose_winograd(w: Window, target: Target) -> tuple[str, str] | None:
    """('winograd F(mxm)', why), or None where direct convolution is at least as good.

    From measurements: F(4x4) from 14x14 up; F(6x6) on large images with few channels, where the transforms dominate and its
    larger error stays below 2e-5 of scale; at 7x7 the transformed weights are bound by memory.
    """
    if w.kernel != (1, 3, 3) or w.stride != (1, 1, 1) or w.dilation != (1, 1, 1) or w.size[0] != 1 or any(w.pad[:1]):
        return None
    if w.pad[1] > 1 or w.pad[2] > 1 or w.channels < target.vl or w.out_channels < target.vl:
        return None
    if w.channels % target.vl or w.out_channels % target.vl:
        return None
    tiles = w.n * -(-w.out[1] // 4) * -(-w.out[2] // 4)
    if min(w.out[1:]) >= 100 and w.channels <= 128:
        return "winograd F(6x6)", "large image, few channels: 5.1 times fewer multiplications"
    if min(w.out[1:]) >= 12 and tiles >= 9:
        return "winograd F(4x4)", "4 times fewer multiplications"
    return None


def emit_winograd(
    lo: Lowering, group: Group, w: Window, algorithm: str, reason: str, epilogue: Epilogue, extras: list[Extra]
) -> None:
    node, out = group.anchor, group.output
    x, y = lo.read(node.inputs[0]), lo.write(out)
    m = int(algorithm[-2])
    vl = lo.target.vl
    vector = vl * 4
    points = (m + 2) ** 2
    tiles = w.n * -(-w.out[1] // m) * -(-w.out[2] // m)
    blocks, out_blocks = w.channels // vl, w.out_channels // vl
    mr, nv = best_tile(lo.target, min(tiles, 4096), out_blocks)
    while out_blocks % nv:
        nv -= 1
    group_tiles = _group_size(tiles, mr, blocks, points, lo.threads)
    weights = transformed_weights(lo, node.inputs[1].data, m, nv)
    bias = channel_vector(lo, node.inputs[2].data if len(node.inputs) > 2 and node.inputs[2] else None, w.out_channels, vl)
    zeros = channel_vector(lo, None, 8 * vl, vl)
    space = HEAD_BYTES + points * vector + points * vector * ((blocks * group_tiles | 1) + (nv * group_tiles | 1)) + mr * vector
    scratch, stride = lo.scratch(out.name, space)
    xs, ys = five(x), five(y)
    extra_args: list[int | Ref] = []
    for e in extras:
        n, c, _, h, pixel = e.strides
        extra_args += [e.ref, n, c, h, pixel]
    args = [
        Kernel("winograd_in", (m,)), Kernel("conv_row", (mr, nv, vl, 1, vl, None)),
        Kernel("winograd_out", (m, epilogue.expression)), x.ref, Ref(weights), Ref(bias), y.ref, Ref(zeros),
        w.n, xs[0], ys[0], blocks, out_blocks // nv, w.out[1], w.out[2], w.size[1], w.size[2], xs[1], xs[3], ys[1], ys[3],
        w.pad[1], w.pad[2], group_tiles, nv, mr, *epilogue.bounds, scratch, stride, len(extras), *extra_args,
    ]  # fmt: skip
    info = lo.info(group, f"winograd_{m}", algorithm, f"{reason}; {group_tiles} tiles a group, register tile {mr}x{nv}")
    lo.emit(Kernel("winograd", (m,)), args, info)


def _group_size(tiles: int, mr: int, blocks: int, points: int, threads: int) -> int:
    """Tiles that go together: enough to use each transformed weight several times, few enough for the level-2 cache."""
    per_thread = -(-tiles // threads)
    if per_thread <= 2 * mr:
        return -(-per_thread // mr) * mr
    return 2 * mr if blocks > 4 else mr


def transformed_weights(lo: Lowering, data: np.ndarray, m: int, nv: int):
    """U = G g G^T, [O, I, 3, 3] -> [point][tile][input block][c][nv * c], computed in float64."""
    vl = lo.target.vl

    def make() -> np.ndarray:
        from backends.cpu.micro.winograd import matrices

        g = np.array([[float(v) for v in row] for row in matrices(m)[1]])
        o, i = data.shape[:2]
        transform = np.kron(g, g)  # one product for both sides
        width, inputs = nv * vl, i // vl
        u = np.empty((transform.shape[0], o // width, inputs, vl, width), np.float32)
        for tile in range(o // width):  # a tile at a time: float64 copies of all weights would be gigabytes
            part = data[tile * width : (tile + 1) * width].reshape(width * i, 9).T.astype(np.float64)
            u[:, tile] = (transform @ part).reshape(-1, width, inputs, vl).transpose(0, 2, 3, 1)
        return u

    return lo.weights.pack(data, ("winograd", m, nv, vl), make)

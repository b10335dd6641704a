"""Winograd layers: groups of tiles, the transformed weights, the step."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.tiles import lines_ahead
from graphc.backends.cpu.lower.window import Epilogue, Extra, Window, channel_vector, five
from graphc.backends.cpu.micro.tile import max_rows
from graphc.backends.cpu.micro.winograd import HEAD_BYTES
from graphc.backends.cpu.program import Ref
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.toolchain import Kernel
from graphc.fuse import Group


def grouping(w: Window, m: int, target: Target, threads: int) -> tuple[int, int, int, int]:
    """`plan_groups` of a layer. The register tile follows from one image: another batch size needs no other kernels and no
    other packing."""
    tiles = -(-w.out[1] // m) * -(-w.out[2] // m)
    sizes = (w.channels // target.vl, w.out_channels // target.vl, (m + 2) ** 2, threads)
    tile = plan_groups(target, tiles, *sizes)[2:]
    return plan_groups(target, w.n * tiles, *sizes, tile)


def emit_winograd(
    lo: Lowering, group: Group, w: Window, algorithm: str, reason: str, epilogue: Epilogue, extras: list[Extra]
) -> None:
    node, out = group.anchor, group.output
    x, y = lo.read(node.inputs[0]), lo.write(out)
    m = int(algorithm[-2])
    vl = lo.target.vl
    vector = vl * 4
    points = (m + 2) ** 2
    blocks, out_blocks = w.channels // vl, w.out_channels // vl
    group_tiles, parts, mr, nv = grouping(w, m, lo.target, lo.threads)
    weights = transformed_weights(lo, node.inputs[1].data, m, nv)
    bias = channel_vector(
        lo, node.inputs[2].data if len(node.inputs) > 2 and node.inputs[2] else None, w.out_channels, vl
    )
    zeros = channel_vector(lo, None, 8 * vl, vl)
    space = (
        HEAD_BYTES
        + points * vector
        + points * vector * ((blocks * group_tiles | 1) + (nv * group_tiles | 1))
        + mr * vector
    )
    scratch, stride = lo.scratch(out.name, space)
    lines = lines_ahead(nv * vl * vector // 64, -(-group_tiles // mr), points * blocks * out_blocks * vl * vector)
    xs, ys = five(x), five(y)
    extra_args: list[int | Ref] = []
    for e in extras:
        n, c, _, h, pixel = e.strides
        extra_args += [e.ref, n, c, h, pixel]
    args = [
        Kernel("winograd_in", (m,)), Kernel("conv_row", (mr, nv, vl, 1, vl, None, False, lines)),
        Kernel("winograd_out", (m, epilogue.expression)), x.ref, Ref(weights), Ref(bias), y.ref, Ref(zeros),
        w.n, xs[0], ys[0], blocks, out_blocks // nv, w.out[1], w.out[2], w.size[1], w.size[2], xs[1], xs[3], ys[1], ys[3],
        w.pad[1], w.pad[2], group_tiles, parts, nv, mr, *epilogue.bounds, scratch, stride, len(extras), *extra_args,
    ]  # fmt: skip
    info = lo.info(
        group,
        f"winograd_{m}",
        algorithm,
        f"{reason}; {group_tiles} tiles a group{f' in {parts} parts' if parts > 1 else ''}, register tile {mr}x{nv}",
    )
    lo.emit(Kernel("winograd", (m,)), args, info)


# Seconds a byte (of weights, of tiles that are read again, of weights that stay near), a multiply-add and a value of a transformed tile in the cost model below, fitted on Zen 5 at 3.9 GHz.
FROM_L3, AGAIN, FROM_L2, MULTIPLY, TRANSFORM = 1 / 35e9, 1 / 100e9, 1 / 150e9, 1 / 110e9, 1 / 4e9
L1, L2 = 40_000, 700_000  # bytes of the caches that a panel of weights and a group may fill
L2_RATE = 11  # bytes of a panel that level 2 gives while one vector is multiplied


@lru_cache(maxsize=4096)
def plan_groups(
    target: Target,
    tiles: int,
    blocks: int,
    out_blocks: int,
    points: int,
    threads: int,
    tile: tuple[int, int] | None = None,
) -> tuple[int, int, int, int]:
    """(tiles a group, parts a group, MR, NV): few groups read the transformed weights few times, small ones keep their data
    in the cache. Parts let threads share a group: each transforms its input and reads some of the weights.

    tile: (MR, NV) where they are settled.
    """
    vector = target.vl * 4
    weights = points * blocks * out_blocks * target.vl * vector
    best, least = (1, 1, 1, 1), float("inf")
    for nv in (n for n in (1, 2, 3, 4, 6) if out_blocks % n == 0):
        for mr in range(1, max_rows(target, nv) + 1):
            if tile is not None and tile != (mr, nv):
                continue
            if tile is None and mr * nv < 8 and mr < tiles:
                continue  # too few accumulators to hide the latency of a multiply-add
            for count in range(mr, max(mr, min(tiles + mr - 1, 8 * mr)) + 1, mr):
                groups = -(-tiles // count)
                data = points * vector * count * (blocks + nv)
                spilled = data * (2 * FROM_L3 + out_blocks // nv * AGAIN) if data > L2 else 0.0
                work = points * blocks * out_blocks * count * target.vl**2
                efficiency = _efficiency(target, mr, nv, blocks * target.vl * nv * vector)
                item = weights * (FROM_L3 if weights > L2 else FROM_L2) + spilled + work * MULTIPLY / efficiency
                transform = points * blocks * count * target.vl * TRANSFORM
                for parts in (p for p in (8, 4, 2, 1) if p == 1 or threads > 1 and p <= out_blocks // nv):
                    rounds = -(-groups * parts // threads)
                    cost = rounds / parts * item + min(groups, -(-rounds // parts) + (parts > 1)) * transform
                    if cost < least:
                        best, least = (count, parts, mr, nv), cost
    return best


def _efficiency(target: Target, mr: int, nv: int, panel: int) -> float:
    """Share of the multiply-adds' peak that a register tile reaches, with so many bytes of weights a point: a little is lost
    between steps, more where operands are loaded more often than they are multiplied, or come from level 2 for few rows."""
    work, operands = mr * nv, mr + nv
    share = work / (max(work, 1.15 * operands) + 0.4 * operands) * min(1.0, work / 8) ** 0.5
    return share * min(1.0, L2_RATE * mr / (target.vl * 4)) if panel > L1 else share


def transformed_weights(lo: Lowering, data: np.ndarray, m: int, nv: int):
    """U = G g G^T, [O, I, 3, 3] -> [tile][point][input block][c][nv * c], in the order of use; in float64."""
    vl = lo.target.vl

    def make() -> np.ndarray:
        from graphc.backends.cpu.micro.winograd import matrices

        g = np.array([[float(v) for v in row] for row in matrices(m)[1]])
        o, i = data.shape[:2]
        transform = np.kron(g, g)  # one product for both sides
        width, inputs = nv * vl, i // vl
        u = np.empty((o // width, transform.shape[0], inputs, vl, width), np.float32)
        for tile in range(o // width):  # a tile at a time: float64 copies of all weights would be gigabytes
            part = data[tile * width : (tile + 1) * width].reshape(width * i, 9).T.astype(np.float64)
            u[tile] = (transform @ part).reshape(-1, width, inputs, vl).transpose(0, 2, 3, 1)
        return u

    return lo.weights.pack(data, ("winograd", m, nv, vl), make)

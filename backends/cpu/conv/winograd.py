"""Winograd layers: groups of tiles, the transformed weights, the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from graphc.backends.cpu.conv.conv_row_block import ConvRow
from graphc.backends.cpu.conv.window import Epilogue, EpilogueOperand, Window, bias_of, five
from graphc.backends.cpu.conv.winograd_block import WINOGRAD, Winograd, WinogradIn, WinogradOut
from graphc.backends.cpu.conv.winograd_micro import HEAD_BYTES
from graphc.backends.cpu.costs import AGAIN, FROM_L2, FROM_L3, TRANSFORM, multiply
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.policy import Choice
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA
from graphc.backends.cpu.tile.tile_micro import max_rows
from graphc.backends.cpu.tile.tile_model import WINOGRAD as LOOP
from graphc.backends.cpu.tile.tile_model import cost
from graphc.backends.cpu.tile.tiles import Costs, Cut, cut_into, fetches, highest_tile, kernels_of, lines_ahead
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref
from graphc.sizes import choose, for_speed, is_size, largest
from graphc.types import MaybeNone


@dataclass(frozen=True)
class Grouping:
    """`count` tiles per group, in parts that threads share; register tiles, NV vectors wide, of a group and of the last one."""

    count: int
    parts: int
    rows: Cut
    rest: Cut
    nv: int


def grouping(w: Window, m: int, target: Target, threads: int) -> Grouping:
    """Of a layer. The kernel's tiles follow from one image: another batch size needs no other kernel and no other packing."""
    tiles = -(-w.out[1] // m) * -(-w.out[2] // m)
    sizes = (w.channels // target.vl, w.out_channels // target.vl, (m + 2) ** 2, threads)
    one = plan_groups(target, tiles, *sizes)
    g = plan_groups(target, w.n * tiles, *sizes, (one.rows.heights, one.nv))
    return g if not is_size(w.n * tiles) else replace(g, rest=_last_of_many(g, w.n * tiles))


def _last_of_many(g: Grouping, tiles: int) -> Cut:
    """How the last group is cut, where the number of tiles stands for many. All groups have `count` but this."""
    left = largest((tiles - 1) % g.count + 1, g.rows.heights[-1])
    costs = (0.0, *(1.0 for _ in range(g.rows.heights[0])))

    def count(i: int) -> int:
        return choose(lambda n: cut_into(max(n, g.rows.heights[-1]), g.rows.heights, costs).counts[i], left)

    return Cut(left, g.rows.heights, tuple(map(count, range(len(g.rows.heights)))), g.rest.cost)


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
    g = grouping(w, m, lo.target, lo.threads)
    group_tiles, nv = g.count, g.nv
    weights = transformed_weights(lo, node.inputs[1].data, m, nv)
    bias = channel_vector(lo, bias_of(node), w.out_channels, vl)
    zeros = channel_vector(lo, None, 8 * vl, vl)
    space = HEAD_BYTES + points * vector + points * vector * ((blocks * group_tiles | 1) + (nv * group_tiles | 1))
    scratch, stride = lo.scratch(out.name, space)
    lines = lines_ahead(
        lo.target, nv * vl * vector // CACHE_LINE, g.rows.tiles, points * blocks * out_blocks * vl * vector
    )
    xs, ys = five(x), five(y)
    lower, upper = epilogue.bounds
    gemm = ConvRow(
        heights=g.rows.heights, nv=nv, xm=vl, xu=1, depth=vl, epilogue=None, masked=False, lines=fetches(lines),
        in_parts=False, group=0, prologue=None, ragged=False,
    )  # fmt: skip
    args = WINOGRAD(
        transform_in=WinogradIn(m), gemm=gemm, transform_out=WinogradOut(m, epilogue.expression),
        x=x.ref, u=Ref(weights), bias=Ref(bias), y=y.ref, zeros=Ref(zeros), n=w.n, blocks=blocks, tiles=out_blocks // nv,
        out_h=w.out[1], out_w=w.out[2], in_h=w.size[1], in_w=w.size[2], pad_h=w.pad[1], pad_w=w.pad[2],
        xs_n=xs[0], xs_block=xs[1], xs_h=xs[3], ys_n=ys[0], ys_block=ys[1], ys_h=ys[3],
        group=group_tiles, parts=g.parts, nv=nv, rows=g.rows.words, rest=g.rest.pixels, rest_rows=g.rest.words,
        coming_bytes=lines * CACHE_LINE, lo=lower, hi=upper, scratch=scratch, scratch_stride=stride,
        epilogue_operands=len(epilogue_operands),
        records=[dict(zip(("ref", "n", "block", "h", "pixel"), (e.ref, *e.strides[:2], *e.strides[3:]))) for e in epilogue_operands],
    )  # fmt: skip
    info = lo.info(
        group,
        f"winograd_{m}",
        choice.algorithm,
        f"{choice.reason}; {group_tiles} tiles per group{f' in {g.parts} parts' if g.parts > 1 else ''}, "
        f"register tile {g.rows.heights[0]}x{nv}",
    )
    lo.emit(Winograd(m), args, info, writes=[y.ref])


PANEL = 13 / 16  # of level 1 that a panel of weights may fill, to be there for the next rows
GROUP = 2 / 3  # of level 2 that a group may fill: weights go by, and some of it is what the last group left
LINE_ROWS = 7  # to multiply with a cache line of weights, until level 2 has given the next
MOST_TILES = 8  # of the highest register tile, in a group
MOST_GROUPS = 16  # more than there must be
ALONE = 1, 2, 3, 4, 8, 9, 16  # rows of register tiles without others: images of 2x2, 3x3 and 4x4 tiles are common
SEVERAL = 1.04  # times the cost where register tiles have several heights, measured at 16 tiles
HIGHEST_ALONE = 18  # rows of a register tile that is one vector wide: its weights serve no others


def group_bytes(target: Target) -> int:
    """Of a group's tiles that level 2 holds."""
    return int(GROUP * target.l2)


@for_speed
@lru_cache(maxsize=4096)
def plan_groups(
    target: Target,
    tiles: int,
    blocks: int,
    out_blocks: int,
    points: int,
    threads: int,
    settled: tuple[tuple[int, ...], int] | None = None,
) -> Grouping:
    """Few groups read the transformed weights few times, small ones keep their data in the cache. Parts let threads share a
    group: each transforms its input and reads some of the weights.

    settled: heights of the register tiles and NV, where they are.
    """
    vector = target.vector
    weights = points * blocks * out_blocks * target.vl * vector
    cached = group_bytes(target)
    best: Grouping | MaybeNone = None
    least = float("inf")
    for heights, nv in [settled] if settled else _register_tiles(target, tiles, out_blocks):
        costs = _costs(target, nv, blocks * target.vl * nv * vector > int(PANEL * target.l1))
        bias = 1.0 if len(heights) == 1 else SEVERAL
        for count in _group_sizes(tiles, heights):
            groups = -(-tiles // count)
            left = max(tiles - (groups - 1) * count, heights[-1])  # rows that do not exist are computed, not stored
            rows, rest = cut_into(count, heights, costs), cut_into(left, heights, costs)
            data = points * vector * count * (blocks + nv)
            spilled = data * (2 * FROM_L3 + out_blocks // nv * AGAIN) if data > cached else 0.0
            work = points * blocks * target.vl * out_blocks * ((groups - 1) * rows.cost + rest.cost) / groups
            item = weights * (FROM_L3 if weights > cached else FROM_L2) + spilled + work * multiply(target)
            transform = points * blocks * count * target.vl * TRANSFORM
            for parts in (p for p in (8, 4, 2, 1) if p == 1 or threads > 1 and p <= out_blocks // nv):
                rounds = -(-groups * parts // threads)
                seconds = rounds / parts * item + min(groups, -(-rounds // parts) + (parts > 1)) * transform
                if seconds * bias < least:
                    best, least = Grouping(count, parts, rows, rest, nv), seconds * bias
    return best


def _register_tiles(target: Target, tiles: int, out_blocks: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Heights and NV of kernels that could multiply so many tiles of an image. Few accumulators can't hide the latency of a
    multiply-add."""
    for nv in (n for n in (1, 2, 3, 4, 6) if out_blocks % n == 0):
        highest = min(HIGHEST_ALONE, max_rows(target, nv)) if nv == 1 else highest_tile(target, nv)
        for heights in kernels_of(highest, tiles):
            if (heights[0] * nv >= 8 or heights[0] >= tiles) and heights[-1] <= tiles:
                yield heights, nv
        for h in ALONE if tiles < 2 * highest else ():
            if h < min(highest, tiles + 1) and (h * nv >= 8 or h == tiles):
                yield (h,), nv


def _group_sizes(tiles: int, heights: tuple[int, ...]) -> set[int]:
    """Groups of whole register tiles, and groups that are alike."""
    most = min(tiles, MOST_TILES * heights[0])
    whole = {n for k in range(MOST_TILES + 1) for n in (k * heights[0], *(k * heights[0] + h for h in heights)) if n}
    fewest = -(-tiles // most)
    alike = {-(-tiles // n) for n in range(fewest, fewest + MOST_GROUPS)}
    return {max(n, heights[-1]) for n in whole | alike if n <= most} or {heights[-1]}


@lru_cache
def _costs(target: Target, nv: int, far: bool) -> Costs:
    """Per vector of columns. far: weights come from level 2."""
    rows = LINE_ROWS if far and target.vector == CACHE_LINE else 0
    return 0.0, *(cost(target, mr, nv, LOOP, rows) / nv for mr in range(1, target.registers))


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

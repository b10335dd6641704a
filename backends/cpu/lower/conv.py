"""Conv: the algorithm of each layer, packing of its weights, and its steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from backends.cpu.lower import dense_window
from backends.cpu.lower.core import Lowering, is_blocked, lowers
from backends.cpu.lower.depthwise import emit_depthwise
from backends.cpu.lower.filters import Filters, pack_filters, pack_groups, spans_of
from backends.cpu.lower.tiles import best_rows, best_tile, chunk_of, lines_ahead
from backends.cpu.lower.window import Epilogue, Extra, Window, channel_vector, epilogue_of, extras_of, five, window_of
from backends.cpu.lower.winograd import choose_winograd, emit_winograd
from backends.cpu.micro.conv import SLOTS
from backends.cpu.micro.group_tile import group_rows, is_group
from backends.cpu.program import Ref
from backends.cpu.target import Target
from backends.cpu.toolchain import Kernel
from graphc.fuse import Group
from graphc.graph import Node

L2_BYTES = 400_000  # of activations that a block of rows may take while the channel tiles go round
PANEL_BYTES = 330_000  # of weights that a tile of output channels may take, if it is wider than two blocks: two panels
# lie in the level-2 cache, the one that is in use and the next


@dataclass(frozen=True)
class Choice:
    """The algorithm of one convolution, and why."""

    algorithm: str  # 'direct', 'depthwise', 'winograd F(2x2)' …
    reason: str


def conv_supported(node: Node, target: Target) -> str | None:
    if node.output.dtype.name not in dense_window.DTYPES:
        return f"convolutions have no {node.output.dtype.name} kernel"
    return "it has more than three spatial dims" if node.output.type.rank > 5 else None


def choose(node: Node, target: Target) -> Choice:
    """Direct, depthwise or Winograd."""
    return _choose(window_of(node), node.attrs["group"], target)


@lru_cache(maxsize=4096)
def _choose(w: Window, group: int, target: Target) -> Choice:
    if group == w.channels == w.out_channels and group > 1 and w.is_planar:
        return Choice("depthwise", "one input channel a group")
    if group > 1:
        return Choice("direct", f"{group} groups")
    wino = choose_winograd(w, target)
    if wino is not None:
        return Choice(*wino)
    return Choice("direct", "register tiles straight from the blocked layout")


def form(node: Node, target: Target) -> str | None:
    """Few input channels are read from planes: a block of them would be mostly padding. None: the plain kernel on dense
    operands, for what the packed ones do not do (weights that are computed at run time, float64, no elements)."""
    if node.output.dtype != np.float32 or not all(v.is_const for v in node.operands[1:]):
        return None
    if 0 in node.output.shape or 0 in node.inputs[0].shape:
        return None
    return "planar" if node.inputs[0].shape[1] <= 4 and node.attrs["group"] == 1 else "blocked"


def halo(node: Node, target: Target) -> tuple[int, int]:
    if choose(node, target).algorithm.startswith("winograd"):
        return 0, 0
    return window_of(node).halo


@lowers("Conv", supported=conv_supported)
def lower_conv(lo: Lowering, group: Group) -> None:
    node = group.anchor
    if not is_blocked(node.inputs[0]):
        dense_window.emit_conv(lo, group)
        return
    w = window_of(node)
    choice = choose(node, lo.target)
    epilogue, extras = epilogue_of(group), extras_of(lo, group)
    if choice.algorithm == "depthwise":
        emit_depthwise(lo, group, w, epilogue, extras)
    elif choice.algorithm.startswith("winograd"):
        emit_winograd(lo, group, w, choice.algorithm, choice.reason, epilogue, extras)
    else:
        emit_direct(lo, group, w, choice.reason, epilogue, extras)


def bias_of(node: Node) -> np.ndarray | None:
    return node.inputs[2].data if len(node.inputs) > 2 and node.inputs[2] is not None else None


def emit_direct(
    lo: Lowering,
    group: Group,
    w: Window,
    reason: str,
    epilogue: Epilogue,
    extras: list[Extra],
    filters: Filters | None = None,
) -> None:
    """Steps of one tile width each, as few as cover the channel blocks. filters: by default operand 1 as it is."""
    node, out = group.anchor, group.output
    data = node.inputs[1].data
    filters = filters or Filters(data, (), lambda: data)
    x, y = lo.read(node.inputs[0]), lo.write(out)
    vl = lo.target.vl
    blocks = -(-w.out_channels // vl)
    flat = _is_flat(w, x, y, extras)
    pixels = w.pixels if flat else w.out[2]
    groups = node.attrs["group"]
    per_group = w.channels // groups
    if w.channels == w.out_channels and is_group(per_group, lo.target) and x.type.layout.c == vl:
        mr = group_rows(lo.target, per_group, pixels)
        _emit_tiles(lo, group, w, filters, reason, epilogue, extras, x, y, flat, mr, 1, 0, blocks, per_group)
        return
    # every row reads a tile's weights again: they should stay in the level-2 cache, all of them or those of a chunk
    widest = max(2, PANEL_BYTES // (4 * vl * per_group * int(np.prod(w.kernel))))
    first = 0
    while first < blocks:
        mr, nv = _tile_of(lo.target, w, groups, x.type.layout.c, pixels, first, blocks, blocks)
        if nv > widest and (groups > 1 or pixels % mr):
            mr, nv = _tile_of(lo.target, w, groups, x.type.layout.c, pixels, first, blocks, widest)
        last = first + (blocks - first) // nv * nv
        _emit_tiles(lo, group, w, filters, reason, epilogue, extras, x, y, flat, mr, nv, first, last)
        first = last


def _tile_of(
    target: Target, w: Window, groups: int, depth: int, pixels: int, first: int, last: int, widest: int
) -> tuple[int, int]:
    """Register tile for the output blocks [first, last). Wide tiles of a grouped convolution multiply many zeros."""
    if groups == 1:
        return best_tile(target, pixels, min(widest, last - first))
    best, least = (1, 1), float("inf")
    for nv in range(1, min(widest, 4, last - first) + 1):
        mr, score = best_rows(target, pixels, nv)
        tiled = first + (last - first) // nv * nv
        read = sum(spans_of(w, groups, depth, nv * target.vl, first * target.vl, tiled * target.vl).counts) * nv
        cost = read / ((tiled - first) * score)
        if cost < least:
            best, least = (mr, nv), cost
    return best


def _is_flat(w: Window, x, y, extras: list[Extra]) -> bool:
    """A 1x1 convolution whose rows follow each other without a gap is one long row."""
    if w.kernel != (1, 1, 1) or w.stride != (1, 1, 1) or any(w.pad) or any(w.pad_end):
        return False
    size = w.out

    def packed(strides: tuple[int, ...]) -> bool:
        d, h, pixel = strides[2:]
        if (d, h, pixel) == (0, 0, 0):
            return True
        return (size[1] == 1 or h == pixel * size[2]) and (size[0] == 1 or d == h * size[1])

    return packed(five(x)) and packed(five(y)) and all(packed(e.strides) for e in extras)


def _emit_tiles(
    lo, group, w: Window, filters: Filters, reason, epilogue, extras, x, y, flat, mr, nv, first, last, per_group=0
) -> None:
    """A step for the output-channel blocks [first, last). per_group: channels, where groups lie within blocks; or 0."""
    node = group.anchor
    vl = lo.target.vl
    c = x.type.layout.c
    depth = (
        min(c, w.channels) if node.attrs["group"] == 1 else c
    )  # one block that the channels do not fill: skip its zeros
    spans = spans_of(w, node.attrs["group"], depth, nv * vl, first * vl, last * vl)
    if per_group:
        depth = per_group
        weights = pack_groups(lo, filters, w, per_group, vl)
    else:
        weights = pack_filters(lo, filters, w, spans, vl)
    bias = channel_vector(lo, bias_of(node), w.out_channels, vl)
    xs, ys = five(x), five(y)
    kd, kh, kw = w.kernel
    panel = depth * nv * vl * 4  # bytes of one window position of one input block
    ws_h, ws_d = kw * panel, kh * kw * panel
    ws_block, tiles = kd * ws_d, (last - first) // nv
    out_d, out_h, out_w = w.out
    # Many rows use a tile's weights again, until the next tile reads the same rows: both should stay in the level-2 cache.
    # Where there are more weights than rows, a chunk of the input blocks at a time.
    read = xs[4] * w.pixels if flat else xs[3] * min(w.size[1], out_h * w.stride[1]) * out_d  # bytes of a block
    row = w.pixels if flat else out_w
    heavy = ws_block * tiles > read
    chunked = spans.uniform and tiles > 1 and row % mr == 0 and heavy  # tiles must not overlap
    items = w.n * out_d * tiles
    if flat:
        total = w.pixels
        fitting = total if chunked or tiles == 1 else max(mr, int(L2_BYTES // (xs[4] * spans.most)) // mr * mr)
        per_row = min(total, fitting, -(-lo.rows_of_item(total, items, heavy) // mr) * mr)
        out_d, out_h, out_w = 1, -(-total // per_row), per_row
        rows = 1
        x_h, y_h = per_row * xs[4], per_row * ys[4]
    else:
        total = 0
        x_h, y_h = xs[3], ys[3]
        fitting = out_h if chunked or tiles == 1 else max(1, L2_BYTES // (xs[3] * spans.most * w.stride[1] or 1))
        rows = min(out_h, fitting, lo.rows_of_item(out_h, items, heavy))
    scratch, stride = lo.scratch(group.output.name, 512)
    assert stride == 512
    tiles_in_row = -(-out_w // mr)
    lines = lines_ahead(panel // 64, tiles_in_row * rows, ws_block * spans.most * tiles) if spans.uniform else 0
    chunk = spans.most
    if chunked and tiles_in_row * rows > 1:
        chunk = chunk_of(
            spans.most, ws_block, xs[4] * per_row if flat else xs[3] * min(w.size[1], rows * w.stride[1] + kh)
        )
    form = (mr, nv, w.stride[2] * c, 1, depth)
    whole = chunk == spans.most
    micro = Kernel("conv_row", (*form, epilogue.expression, False, lines, "" if whole else "last", per_group))
    partial = (0, 0) if whole else [Kernel("conv_row", (*form, None, False, lines, s)) for s in ("first", "middle")]
    block = [
        spans.most, kw, xs[1], xs[2] * w.dilation[0], xs[3] * w.dilation[1], w.dilation[2] * c * 4, ws_block, ws_d, ws_h,
        ys[4], ys[1], out_w, *epilogue.bounds, 0,
    ]  # fmt: skip
    for e in extras:
        block += [0, e.strides[1], e.strides[4]]
    block += [0] * (SLOTS - len(block))
    extra_args: list[int | Ref] = []
    for e in extras:
        n, block_step, d, h, pixel = e.strides
        row_step = per_row * pixel if flat else h
        extra_args += [e.ref + first * block_step, n, nv * block_step, d, row_step, pixel]
    args = [
        micro, x.ref + (-w.pad[2]) * xs[4], Ref(weights), Ref(bias, first * vl * 4), y.ref + first * ys[1], w.n, xs[0], ys[0],
        tiles, out_d, out_h, out_w, kd, kh, w.stride[0], w.stride[1], w.dilation[0], w.dilation[1], w.pad[0], w.pad[1], w.size[0], out_h if flat else w.size[1],
        xs[1], xs[2], x_h, nv * ys[1], ys[2], y_h, spans.most * ws_block, ws_d, ws_h, nv * vl * 4, rows,
        spans.table(lo, ws_block), total, mr, xs[4] * w.stride[2], ys[4], scratch, len(extras), tiles_in_row * chunk * kd * kh * kw * lines * 64, chunk,
        *partial, ws_block, *block, *extra_args,
    ]  # fmt: skip
    info = lo.info(
        group,
        str(micro),
        "direct",
        f"{reason}; tile {mr}x{nv}{f', {chunk} input blocks at a time' * (chunk < spans.most)}",
    )
    lo.emit(Kernel("conv"), args, _share(info, last - first, -(-w.out_channels // vl)))


def _share(info, part: int, whole: int):
    """The part of a layer's work that one of its steps does."""
    from dataclasses import replace

    return (
        info if part == whole else replace(info, flops=info.flops * part // whole, nbytes=info.nbytes * part // whole)
    )

"""Direct convolution: register tiles over channel blocks, and how the work is cut for caches and threads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from graphc.backends.cpu.conv.conv_block import CONV, Conv
from graphc.backends.cpu.conv.conv_row_block import (
    BLOCK_BYTES,
    CONV_ROW,
    MAX_SOURCES,
    OPERAND,
    ConvRow,
)
from graphc.backends.cpu.conv.filters import Filters, Span, Spans, pack_filters, pack_groups, spans_of
from graphc.backends.cpu.conv.group_tile_micro import group_rows, is_group
from graphc.backends.cpu.conv.window import (
    Epilogue,
    EpilogueOperand,
    Window,
    bias_of,
    five,
    is_packed,
    is_pointwise,
    operand_slots,
)
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.product.scaled_input import ScaledInput
from graphc.backends.cpu.sizes import CACHE_LINE
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA
from graphc.backends.cpu.tile.tile_micro import NO_FETCH
from graphc.backends.cpu.tile.tiles import (
    Cut,
    best_vectors,
    chunk_of,
    cut_channels,
    cut_into,
    cut_many,
    cut_row,
    fetches,
    lines_ahead,
    tile_costs,
    widest_tile,
    without_overlap,
)
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.kernel import one_of
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.report import StepInfo
from graphc.sizes import LOOKED_UP, choose, hint_of, is_size, largest, smallest, where

# Parts of the level-2 cache: that a block of rows may take while it is read for one channel tile after another, beside their
# weights and results; that the weights of a tile one block wide fill before they are fetched ahead, because loads are its limit.
ROWS = 0.3815
NARROW = 0.061


@dataclass(frozen=True)
class Layer:
    """A convolution that register tiles compute. flat: its rows are one long row. scale: what the input is multiplied with on
    its way."""

    group: Group
    w: Window
    filters: Filters
    reason: str
    epilogue: Epilogue
    epilogue_operands: list[EpilogueOperand]
    x: Storage
    y: Storage
    flat: bool
    scale: ScaledInput | None


def emit_direct(
    lo: CpuLowering,
    group: Group,
    w: Window,
    reason: str,
    epilogue: Epilogue,
    epilogue_operands: list[EpilogueOperand],
    filters: Filters | None = None,
    scale: ScaledInput | None = None,
) -> None:
    """Steps of one tile width each, as few as cover the channel blocks. filters: by default operand 1 as it is. scale: what
    the input is multiplied with on its way."""
    node, out = group.anchor, group.output
    data = node.inputs[1].data
    filters = filters or Filters(data, (), lambda: data)
    x, y = lo.read(node.inputs[0]), lo.write(out)
    flat = _is_flat(w, x, y, epilogue_operands)
    layer = Layer(group, w, filters, reason, epilogue, epilogue_operands, x, y, flat, scale)
    vl, pixels = lo.target.vl, w.pixels if flat else w.out[2]
    blocks = -(-w.out_channels // vl)
    groups = node.attrs["group"]
    per_group, c = w.channels // groups, x.type.blocks.c
    if w.channels == w.out_channels and is_group(per_group, lo.target) and c == vl:
        heights, costs = (group_rows(lo.target, per_group, hint_of(pixels)),), tile_costs(lo.target, 1)
        row = cut_many(pixels, heights, costs) if is_size(pixels) else cut_into(pixels, heights, costs)
        vectors = [range(v * vl, (v + 1) * vl) for v in range(blocks)]
        spans = Spans(groups, vl, vl, vl, tuple(Span(lanes, lanes) for lanes in vectors))
        _emit_tiles(lo, layer, row, spans, per_group)
        return
    block_bytes = FMA.weights(vl) * per_group * prod(w.kernel)  # of the weights of one output block
    if groups > 1:
        widest = widest_tile(lo.target, block_bytes)
        for nv, tiles in _tiles_of_groups(lo.target, w, groups, pixels, widest).items():
            spans = Spans(groups, c, nv * vl, vl, tuple(tiles))
            _emit_tiles(lo, layer, cut_row(lo.target, pixels, nv, flat), spans)
        return
    depth = min(c, w.channels)  # of a single block that the channels do not fill
    for nv, covered in cut_channels(lo.target, pixels, blocks, block_bytes):
        spans = spans_of(w, depth, vl, nv * vl, covered.start, covered.stop)
        _emit_tiles(lo, layer, cut_row(lo.target, pixels, nv, flat), spans)


def rows_bytes(target: Target) -> int:
    """Of activations that a block of rows may take."""
    return int(ROWS * target.l2)


def _tiles_of_groups(target: Target, w: Window, groups: int, pixels: int, widest: int) -> dict[int, list[Span]]:
    """The tiles of each width NV. No tile reads or makes channels of several groups: a zero weight would turn the NaN of
    another group into one of its own. What lies behind the last channel is the last group's.

    Reading no zeros saves more than narrower tiles cost, but where groups make one channel of two, or two of one by a 1x1
    window: there it takes 1.3 to 1.6 times as long.
    """
    vl, per_in, per_out = target.vl, w.channels // groups, w.out_channels // groups
    found: dict[int, list[Span]] = {}
    for g in range(groups):
        own = range(g * per_out, (g + 1) * per_out)
        if g == groups - 1:
            own = range(own.start, -(-own.stop // vl) * vl)
        first, last = own.start // vl, -(-own.stop // vl)
        while first < last:
            nv = best_vectors(target, pixels, min(widest, last - first))
            outputs = range(max(own.start, first * vl), min(own.stop, (first + nv) * vl))
            found.setdefault(nv, []).append(Span(outputs, range(g * per_in, (g + 1) * per_in)))
            first += nv
    return found


def _is_flat(w: Window, x: Storage, y: Storage, epilogue_operands: list[EpilogueOperand]) -> bool:
    """A 1x1 convolution whose rows follow each other without a gap is one long row."""
    return is_pointwise(w) and all(is_packed(w, s) for s in (five(x), five(y), *(e.strides for e in epilogue_operands)))


@dataclass(frozen=True)
class Schedule:
    """How the rows of a layer, flat or as they are, go by the tiles of output channels.

    Many rows use a tile's weights again, and the next tile reads the same rows: both should stay in the level-2 cache. Where
    there are more weights than rows, a chunk of the input blocks at a time does both.

    out       (depth, rows, pixels of a row)
    row       how a row is cut into tiles
    last      the same of the last row of a flat image
    rows      that make a work unit with one tile
    chunk     input blocks at a time
    in_parts  may they be fewer than all?
    lines     cache lines of the next weights that a tile fetches with each run of steps
    """

    out: tuple[int, int, int]
    row: Cut
    last: Cut
    rows: int
    chunk: int
    in_parts: bool
    lines: int

    @classmethod
    def of(cls, lo: CpuLowering, layer: Layer, row: Cut, spans: Spans, position: int) -> Schedule:
        """row: how an image, if it is flat, or one of its rows is cut. position: bytes of a tile's weights for one position
        of the window and one input block."""
        w, flat = layer.w, layer.flat
        nv, tiles = spans.tile // lo.target.vl, len(spans.tiles)
        out_d, out_h, out_w = w.out
        row_bytes, pixel_bytes = five(layer.x)[3:]
        weights = position * prod(w.kernel)
        image = pixel_bytes * w.pixels if flat else row_bytes * smallest(w.size[1], out_h * w.stride[1]) * out_d
        heavy = weights * tiles > hint_of(image)
        apart, is_apart = None, 0
        if heavy and spans.uniform and tiles > 1:
            apart, is_apart = without_overlap(lo.target, row, nv, flat)
        items = w.n * out_d * tiles
        row = last = apart or row
        if flat and is_size(w.pixels):
            row, last, pieces = _pieces_of_many(lo, layer, row, nv, spans.most, heavy, items)
            out, rows, read = (1, pieces, row.pixels), 1, pixel_bytes * row.pixels
        elif flat:
            highest = row.heights[0]
            fitting = (
                w.pixels  # rows need not fit
                if is_apart or tiles == 1
                else max(highest, rows_bytes(lo.target) // (pixel_bytes * spans.most) // highest * highest)
            )
            wanted = -(-lo.rows_per_work_unit(w.pixels, items, heavy) // highest) * highest
            pixels = min(w.pixels, fitting, wanted)
            if pixels < w.pixels:
                row, last = _pieces(lo.target, row, pixels, nv, apart is not None)
            pieces = 1 + (w.pixels - last.pixels) // row.pixels
            out, rows, read = (1, pieces, row.pixels), 1, pixel_bytes * row.pixels
        else:
            row_of_all = row_bytes * spans.most * w.stride[1]
            few = largest(1, rows_bytes(lo.target) // (row_of_all or 1))
            fitting = out_h if tiles == 1 else where(is_apart, out_h, few)
            rows = smallest(out_h, fitting, lo.rows_per_work_unit(out_h, items, heavy))
            out, read = w.out, row_bytes * smallest(w.size[1], rows * w.stride[1] + w.kernel[1])
        uses = hint_of(row.tiles * rows)  # of a tile's weights
        least = chunk_of(lo.target, spans.most, weights, read) if apart and uses > 1 else spans.most
        chunk = where(is_apart, least, spans.most)
        lines = (
            lines_ahead(lo.target, position // CACHE_LINE, uses, weights * spans.most * tiles) if spans.uniform else 0
        )
        return cls(out, row, last, rows, chunk, least < spans.most, lines)


def _pieces(target: Target, image: Cut, pixels: int, nv: int, exact: bool) -> tuple[Cut, Cut]:
    """A flat image in pieces of `pixels`, a multiple of the highest tile: one of them, and the last, which takes in the one
    before it where what is left can't be cut."""
    costs = tile_costs(target, nv)
    left = image.pixels % pixels or pixels
    last = cut_into(left, image.heights, costs, exact) or cut_into(left + pixels, image.heights, costs, exact)
    return cut_into(pixels, image.heights, costs), last


def _pieces_of_many(
    lo: CpuLowering, layer: Layer, image: Cut, nv: int, blocks: int, heavy: bool, items: int
) -> tuple[Cut, Cut, int]:
    """The same of a flat image whose pixels stand for many: pieces that fit what fits the example, so few that the last one
    can be looked up. Also how many pieces there are. blocks: of the input, that a piece is read of."""
    costs, highest, lowest = tile_costs(lo.target, nv), image.heights[0], image.heights[-1]
    pixel_bytes, pixels = five(layer.x)[4], layer.w.pixels
    fitting = rows_bytes(lo.target) // (pixel_bytes * blocks)
    wanted = hint_of(lo.rows_per_work_unit(pixels, items, heavy))
    piece = max(1, min(fitting, wanted, LOOKED_UP // 2) // highest) * highest
    left = (pixels - 1) % piece + 1

    def joined(n: int) -> int:
        """Pixels of the last piece, where n are left: too few to be cut take in the piece before."""
        return n if n >= lowest else n + piece

    def count(i: int) -> int:
        return choose(lambda n: cut_into(joined(n), image.heights, costs).counts[i], left)

    last = Cut(choose(joined, left), image.heights, tuple(map(count, range(len(image.heights)))), image.cost)
    return cut_into(piece, image.heights, costs), last, 1 + (pixels - last.pixels) // piece


def _emit_tiles(lo: CpuLowering, layer: Layer, row: Cut, spans: Spans, per_group: int = 0) -> None:
    """A step for the tiles of `spans`. per_group: channels, where groups lie within blocks; or 0."""
    group, w, epilogue, x, y, flat = layer.group, layer.w, layer.epilogue, layer.x, layer.y, layer.flat
    node = group.anchor
    vl, c, tiles = lo.target.vl, x.type.blocks.c, len(spans.tiles)
    nv, dot = spans.tile // vl, FMA
    depth = per_group or spans.depth
    weights = _packed_weights(lo, layer, spans, per_group)
    bias = channel_vector(lo, bias_of(node), w.out_channels, vl)
    xs, ys = five(x), five(y)
    kd, kh, kw = w.kernel
    ws_w = dot.steps(depth) * dot.weights(nv * vl)  # bytes of one window position of one input block
    ws_h, ws_d, ws_block = kw * ws_w, kh * kw * ws_w, kd * kh * kw * ws_w
    plan = Schedule.of(lo, layer, row, spans, ws_w)
    out_d, out_h, out_w = plan.out
    x_h, y_h = (out_w * xs[4], out_w * ys[4]) if flat else (xs[3], ys[3])
    narrow = nv == 1 and not per_group and not plan.lines
    lines = (
        NO_FETCH
        if narrow and spans.most * ws_block <= NARROW * lo.target.l2
        else 0
        if per_group
        else fetches(plan.lines)
    )
    micros = [
        ConvRow(
            heights=heights, nv=nv, xm=w.stride[2] * dot.steps(c), xu=1, depth=dot.steps(depth),
            epilogue=epilogue.expression, masked=spans.masked, lines=lines, in_parts=plan.in_parts, group=per_group,
            prologue=None, ragged=spans.ragged,
        )
        for heights in plan.row.kernels or (row.heights,)
    ]  # fmt: skip
    usual = next(m for m in micros if m.heights == row.heights)
    scratch, stride = lo.scratch(group.output.name, BLOCK_BYTES)
    lower, upper = epilogue.bounds
    input_first, input_end = spans.input_lanes[0]
    template = CONV_ROW(
        blocks=spans.most, kernel_w=kw, pixels=out_w, lo=lower, hi=upper,
        xs_block=xs[1], xs_d=xs[2] * w.dilation[0], xs_h=xs[3] * w.dilation[1], xs_w=w.dilation[2] * dot.steps(c) * dot.item,
        ws_block=ws_block, ws_d=ws_d, ws_h=ws_h, ys_w=ys[4], ys_block=ys[1],
        epilogue_operands=operand_slots(layer.epilogue_operands),
        coming=0, coming_step=plan.lines * CACHE_LINE, tiles=plan.row.words, continues=0, partial=0,
        first_lane=0, lanes=0, input_first=input_first, input_end=input_end, sources=[0] * (OPERAND * MAX_SOURCES),
    )  # fmt: skip
    first = spans.vectors[0] if spans.uniform else 0
    to = y.ref + first * ys[1]
    args = CONV(
        micro=one_of(plan.row.kernel, micros), x=x.ref + (-w.pad[2]) * xs[4], w=Ref(weights), bias=Ref(bias, first * lo.target.vector), y=to,
        n=w.n, tiles=tiles, nv=nv, out_d=out_d, out_h=out_h, out_w=out_w, in_d=w.size[0], in_h=out_h if flat else w.size[1],
        k_d=kd, k_h=kh, s_d=w.stride[0], s_h=w.stride[1], d_d=w.dilation[0], d_h=w.dilation[1], p_d=w.pad[0], p_h=w.pad[1],
        xs_n=xs[0], xs_block=xs[1], xs_d=xs[2], xs_h=x_h, ys_n=ys[0], ys_d=ys[2], ys_h=y_h,
        ws_tile=spans.most * ws_block, ws_block=ws_block, ws_d=ws_d, ws_h=ws_h,
        rows=plan.rows, last_pixels=plan.last.pixels, last_tiles=plan.last.words, spans=spans.table(lo, ws_block),
        chunk=plan.chunk, row_coming=plan.row.tiles * plan.chunk * kd * kh * kw * plan.lines * CACHE_LINE,
        scratch=scratch, stride=stride, epilogue_operands=len(layer.epilogue_operands), template=template,
        records=_operand_records(layer, first, out_w),
    )  # fmt: skip
    chunks = f", {hint_of(plan.chunk)} input blocks at a time" if hint_of(plan.chunk) < spans.most else ""
    info = lo.info(group, str(usual), "direct", f"{layer.reason}; tile {row.heights[0]}x{nv}{chunks}")
    info = _share(info, sum(len(s.outputs) for s in spans.tiles), -(-w.out_channels // vl) * vl)
    lo.emit(Conv(), args, info, writes=[to])


def _packed_weights(lo: CpuLowering, layer: Layer, spans: Spans, per_group: int) -> Buffer:
    w, nv = layer.w, spans.tile // lo.target.vl
    if per_group:
        weights = pack_groups(lo, layer.filters, w, per_group, lo.target.vl)
    else:
        weights = pack_filters(lo, layer.filters, w, spans, FMA)
    if layer.scale is None:
        return weights
    depth = per_group or spans.depth
    return layer.scale.emit(lo, weights, (len(spans.tiles), spans.most, prod(w.kernel), depth, nv * lo.target.vl))


def _operand_records(layer: Layer, first: int, out_w: int) -> list[dict[str, Ref | int]]:
    """The records of a CONV block. first: vector of outputs. out_w: pixels of a row, or of a piece of a flat one."""
    records: list[dict[str, Ref | int]] = []
    for e in layer.epilogue_operands:
        n, block, d, h, pixel = e.strides
        h = out_w * pixel if layer.flat else h
        records.append({"ref": e.ref + first * block, "n": n, "block": block, "d": d, "h": h})
    return records


def _share(info: StepInfo, part: int, whole: int) -> StepInfo:
    """The part of a layer's work that one of its steps does."""
    return replace(info, flops=info.flops * part // whole, nbytes=info.nbytes * part // whole) if part < whole else info

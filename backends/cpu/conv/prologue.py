"""Convolutions that compute their input as they read it: batch norm and activation before a 1x1 convolution, and the like."""

from __future__ import annotations

from dataclasses import replace

from graphc.backends.cpu.conv.conv_mapped_block import CONV_MAPPED, MAPPED_HEAD, ConvMapped
from graphc.backends.cpu.conv.conv_row_block import (
    CONV_ROW,
    MAX_HEIGHTS,
    MAX_SOURCES,
    OPERAND,
    ConvRow,
)
from graphc.backends.cpu.conv.direct import emit_direct, rows_bytes
from graphc.backends.cpu.conv.filters import Filters, pack_filters, spans_of
from graphc.backends.cpu.conv.window import (
    Epilogue,
    EpilogueOperand,
    Window,
    bias_of,
    epilogue_operand_of,
    five,
    is_packed,
    operand_slots,
)
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.product.scaled_input import ScaledInput
from graphc.backends.cpu.sizes import CACHE_LINE, padded
from graphc.backends.cpu.tile.dot import FMA
from graphc.backends.cpu.tile.tiles import best_vectors, even_cut, fetches, lines_ahead
from graphc.backends.cpu.verbs.rows_block import MapRow
from graphc.expr import Expr
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref
from graphc.sizes import for_speed, need

SIMPLE = frozenset(("arg", "const", "add", "sub", "mul", "min", "max", "neg", "abs"))  # few instructions and registers
MOST_STEPS = 10  # of an expression between multiply-adds


def emit_prologue(
    lo: CpuLowering, group: Group, w: Window, reason: str, epilogue: Epilogue, epilogue_operands: list[EpilogueOperand]
) -> bool:
    """The steps of a 1x1 convolution with a prologue, or False where the prologue is better a step of its own."""
    scale = ScaledInput.of(group, w)
    if scale is None:
        return _emit_mapped(lo, group, w, reason, epilogue, epilogue_operands)
    anchor = replace(group.anchor, inputs=(scale.x, *group.anchor.inputs[1:]))
    direct = replace(group, nodes=(anchor, *group.nodes[1:]), anchor=anchor, prologue=None)
    emit_direct(lo, direct, w, reason, epilogue, epilogue_operands, scale=scale)
    return True


def _emit_mapped(
    lo: CpuLowering, group: Group, w: Window, reason: str, epilogue: Epilogue, epilogue_operands: list[EpilogueOperand]
) -> bool:
    """One step for all output channels, whose first tile computes the pixels that all of them read."""
    node, before, vl = group.anchor, group.prologue, lo.target.vl
    assert before is not None and before.expression is not None
    y = lo.write(group.output)
    operands = [epilogue_operand_of(lo, v, before.output) for v in before.operands]
    blocks, out_blocks = -(-w.channels // vl), -(-w.out_channels // vl)
    nv = best_vectors(lo.target, w.pixels, out_blocks, even=True)
    (mr,) = even_cut(lo.target, w.pixels, nv).heights
    if not lo.target.asm or 2 * w.pixels < w.out_channels:  # LLVM spills; each thread would read all the weights
        return False
    kinds = "".join("v" if e.strides[4] else "c" for e in operands)
    if nv == 1 or out_blocks % nv or "v" not in kinds or len(kinds) > MAX_SOURCES or not _is_simple(before.expression):
        return False
    if not all(is_packed(w, s) for s in (five(y), *(e.strides for e in (*epilogue_operands, *operands)))):
        return False
    data, depth, tiles = node.inputs[1].data, min(vl, w.channels), out_blocks // nv
    spans = spans_of(w, depth, vl, nv * vl, 0, out_blocks)
    weights = pack_filters(lo, Filters(data, (), lambda: data), w, spans)
    bias = channel_vector(lo, bias_of(node), w.out_channels, vl)
    vector = lo.target.vector
    panel, ys = FMA.steps(depth) * FMA.weights(nv * vl), five(y)
    pixels = _pixels_of_item(lo, w, mr, blocks * vector)
    need(w.pixels >= pixels)
    lines = lines_ahead(lo.target, panel // CACHE_LINE, -(-pixels // mr), panel * blocks * tiles)
    block_step = (pixels | 1) * vector  # an odd number of lines: blocks must not meet in one set of the cache
    scratch, stride = lo.scratch(group.output.name, MAPPED_HEAD + blocks * block_step)
    others = ConvRow(
        heights=(mr,), nv=nv, xm=vl, xu=1, depth=depth, epilogue=epilogue.expression, masked=False, lines=fetches(lines),
        in_parts=False, group=0, prologue=None, ragged=spans.ragged,
    )  # fmt: skip
    first = replace(others, prologue=(before.expression, kinds))
    row = MapRow(expression=before.expression, kinds=kinds, dtypes=tuple(v.dtype.name for v in before.operands))
    lower, upper = epilogue.bounds
    input_first, input_end = spans.input_lanes[0]
    template = CONV_ROW(
        blocks=blocks, kernel_w=1, pixels=pixels, lo=lower, hi=upper, xs_block=block_step, xs_d=0, xs_h=0, xs_w=0,
        ws_block=panel, ws_d=0, ws_h=0, ys_w=ys[4], ys_block=ys[1],
        epilogue_operands=operand_slots(epilogue_operands),
        coming=0, coming_step=lines * CACHE_LINE, tiles=padded([-(-pixels // mr)], MAX_HEIGHTS), continues=0, partial=0,
        first_lane=0, lanes=0, input_first=input_first, input_end=input_end,
        sources=padded([word for e in operands for word in (0, e.strides[1])], OPERAND * MAX_SOURCES),
    )  # fmt: skip
    args = CONV_MAPPED(
        map=row, first=first, others=others, w=Ref(weights), bias=Ref(bias), y=y.ref,
        n=w.n, tiles=tiles, pixels=w.pixels, item=pixels, mr=mr, blocks=blocks, block_step=block_step, vector=vector,
        ys_n=ys[0], ys_tile=nv * ys[1], ys_pixel=ys[4], ws_tile=panel * blocks, bias_tile=nv * vector,
        scratch=scratch, stride=stride, operands=len(operands), epilogue_operands=len(epilogue_operands), template=template,
        records=[
            {"ref": e.ref, "n": e.strides[0], "block": step * e.strides[1], "pixel": e.strides[4]}
            for of, step in ((operands, 1), (epilogue_operands, nv))
            for e in of
        ],
    )  # fmt: skip
    info = lo.info(group, str(others), "direct", f"{reason}; tile {mr}x{nv}, input {before.expression} as it is read")
    lo.emit(ConvMapped(), args, info, writes=[y.ref])
    return True


@for_speed
def _pixels_of_item(lo: CpuLowering, w: Window, mr: int, pixel_bytes: int) -> int:
    """Pixels of a work unit, whole tiles unless it is the image. The last item overlaps the one before: little should be
    computed twice."""
    fitting = max(1, rows_bytes(lo.target) // (pixel_bytes * mr)) * mr
    most = min(w.pixels, fitting, lo.rows_per_work_unit(w.pixels, w.n, w.out_channels > w.pixels))
    items = -(-w.pixels // most)
    sizes = [min(w.pixels, -(-w.pixels // (count * mr)) * mr) for count in range(items, 2 * items + 1)]
    return min(sizes, key=lambda size: -(-w.pixels // size) * size)


def _is_simple(e: Expr) -> bool:
    def count(e: Expr) -> int:
        return (e.prim not in ("arg", "const")) + sum(map(count, e.args)) if e.prim in SIMPLE else MOST_STEPS + 1

    return count(e) <= MOST_STEPS

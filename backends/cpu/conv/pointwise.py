"""1x1 convolutions as matrix products by Strassen's algorithm: pixels are rows, channels the reduction and the columns."""

from __future__ import annotations

from functools import partial

from graphc.backends.cpu.conv.window import Epilogue, EpilogueOperand, Window, bias_of, five, is_packed
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.product.strassen import Halves, Matrix, Rows, emit_strassen, fits, halves_of
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.tiles import best_vectors, even_cut
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref
from graphc.sizes import need

FEWEST_PIXELS = 32  # smaller images were not measured
FEWEST_CHANNELS = 256  # in and out; below, making sums takes what is saved


def fits_strassen(w: Window, groups: int, target: Target) -> bool:
    """One image at a time, in whole vectors of each half of the channels."""
    plain = groups == 1 and w.kernel == (1, 1, 1) and w.is_planar and not any((*w.pad, *w.pad_end))
    large = w.pixels >= FEWEST_PIXELS and min(w.channels, w.out_channels) >= FEWEST_CHANNELS
    return plain and large and fits(target, w.out_channels, w.channels)


def cut(w: Window, target: Target) -> Halves:
    """How an image is cut."""
    return halves_of(target, w.pixels, w.out_channels, w.channels, partial(_tile, target))


def _tile(target: Target, rows: int, vectors: int) -> tuple[int, int]:
    nv = best_vectors(target, rows, vectors, even=True)
    (mr,) = even_cut(target, rows, nv).heights
    need(rows >= mr)
    return mr, nv


def emit_pointwise(
    lo: CpuLowering, group: Group, w: Window, reason: str, epilogue: Epilogue, epilogue_operands: list[EpilogueOperand]
) -> str | None:
    """The steps, or why there are none."""
    node = group.anchor
    x, y = lo.read(node.inputs[0]), lo.write(group.output)
    xs, ys = five(x), five(y)
    h = cut(w, lo.target)
    flat = is_packed(w, ys)
    if not all(is_packed(w, e.strides) for e in epilogue_operands):
        return "an operand has a halo"
    if not flat and not h.within(w.out[2]):
        return f"its result has a halo, and tiles of {h.mr} pixels would cross it"
    result = Rows(y.ref, ys[4], ys[1], ys[0]) if flat else Rows(y.ref, ys[4], ys[1], ys[0], w.out[2], ys[3])
    row, line = xs[4] * w.stride[2], xs[3] * w.stride[1]
    flat = w.stride == (1, 1, 1) and is_packed(w, xs)
    a = Rows(x.ref, row, xs[1], xs[0]) if flat else Rows(x.ref, row, xs[1], xs[0], w.out[2], line)
    operands = [
        {"ref": e.ref, "image": e.strides[0], "row": e.strides[4], "vector": e.strides[1]} for e in epilogue_operands
    ]
    info = lo.info(group, "", "", f"{reason}; tile {h.mr}x{h.nv}")
    matrix = Matrix.of(node.inputs[1].data, w.out_channels, w.channels, True)
    bias = Ref(channel_vector(lo, bias_of(node), w.out_channels, lo.target.vl))
    emit_strassen(lo, h, w.n, a, result, matrix, bias, epilogue, operands, info)
    return None

"""Conv: products of weights and windows in tiles, plain products where a window is one position, and a loop where each channel
is a group of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from graphc import expr
from graphc.backends.cuda.conv.conv_block import CONV, DEPTHWISE, Conv, Depthwise
from graphc.backends.cuda.conv.taps import tap_table
from graphc.backends.cuda.conv.window import Axis, axes_of, dhw, five, padded, place_words, record
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.epilogue import Ending, Walked, ending_of, summed
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.lower.sizes import require_near, too_large
from graphc.backends.cuda.product.matrices import Matrices, Result
from graphc.backends.cuda.product.product import emit_product
from graphc.backends.cuda.product.tile import TALL, side, tile_for
from graphc.expr import Expr
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Ref, Storage
from graphc.lower.strides import collapse
from graphc.report import StepInfo


@dataclass(frozen=True)
class Filters:
    """Dense weights [outputs, inputs of a group, *taps]. exact: as `Conv` has it."""

    ref: Ref
    outputs: int
    inputs: int
    groups: int
    exact: bool = False

    @property
    def per_group(self) -> int:
        """Outputs of a group."""
        return self.outputs // self.groups


def conv_supported(node: Node, target: object) -> str | None:
    if node.output.type.rank > 5:
        return "it has more than three spatial dims"
    return too_large(node) or native_dtypes(node)


@lowers("Conv", supported=conv_supported, epilogue=lambda node: True)
def lower_conv(lo: CudaLowering, group: Group) -> None:
    node = group.anchor
    x, weights = lo.read(node.inputs[0]), lo.read(node.inputs[1])
    ending = conv_end(lo, group)
    if 0 in group.output.shape:
        return
    axes, groups = axes_of(node), node.attrs["group"]
    filters = Filters(weights.ref, weights.type.extents[0], weights.type.extents[1], groups, node.attrs["exact"])
    emit_conv(lo, x, filters, axes, ending, lo.info(group, "conv"))


def conv_end(lo: CudaLowering, group: Group) -> Ending:
    """The sum plus the bias, in the dtype of the sum; then the group's expression."""
    node = group.anchor
    b = node.inputs[2] if len(node.inputs) > 2 else None
    if b is None:
        return ending_of(lo, group)
    dtype, s = summed(node.output.dtype), lo.strided(b)
    start: Expr = expr.arg(0, dtype) + expr.cast(expr.arg(1, b.dtype), dtype)
    bias = Walked(s.ref, b.dtype, (0, s.strides[0], *(0,) * (node.output.type.rank - 2)))
    return ending_of(lo, group, start, [bias])


def emit_conv(lo: CudaLowering, x: Storage, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo) -> None:
    """The step of a convolution of a dense image. The ending's strides are along [n, channel, *spatial]."""
    k, pixels = f.inputs * prod(len(a.taps) for a in axes), prod(a.out for a in axes)
    info = replace(info, reason=f"{f.outputs}x{k} by {pixels} pixels")
    if f.inputs == 1 and f.groups > 1:
        _emit_depthwise(lo, x, f, axes, ending, info)
        return
    if all(a.is_plain for a in axes) and _emit_pointwise(lo, x, f, axes, ending, info):
        return
    n, m, item, strides = x.type.extents[0], f.per_group, x.type.dtype.itemsize, five(x.strides)
    require_near(n * f.outputs * pixels)
    tile = tile_for(m, pixels, f.groups * n, summed(x.type.dtype).itemsize, TALL)
    tiles_m, tiles_n = -(-m // tile.m), -(-pixels // tile.n)
    args = CONV(
        grid=tiles_m * tiles_n * f.groups * n, tiles_m=tiles_m, tiles_n=tiles_n, m=m, n=pixels, k=k, left=f.ref, right=x.ref,
        **side("left", tile.m, tile.k, tile.threads, k * item, item),
        **side("right", tile.k, tile.n, tile.threads, 2 * item, item),  # neighbouring threads have neighbouring pixels
        dims=padded((f.groups, n), 1), left_batch=padded((m * k * item, 0), 0),
        right_batch=padded((f.inputs * strides[1], strides[0]), 0),
        table=tap_table(lo, axes, f.inputs, strides, tile.k), **place_words(axes, strides), records=[record(w, m) for w in ending.every],
    )  # fmt: skip
    kernel = Conv(x.type.dtype.name, tile, ending.expression, ending.dtypes)
    info = replace(info, kernel=str(kernel), algorithm=f"tiles of {tile}")
    lo.emit(kernel, args, info, writes=[ending.result.ref])


def _emit_pointwise(
    lo: CudaLowering, x: Storage, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo
) -> bool:
    """As a product of matrices, where every operand walks the pixels as one row of them."""
    per_in, per_out = f.inputs, f.per_group
    strides = [five(x.strides), *(five(w.strides) for w in ending.every)]
    pixels, walks = collapse([a.out for a in axes], [list(s[2:]) for s in strides])
    if len(pixels) > 1:
        return False
    item, (s_n, s_c) = x.type.dtype.itemsize, x.strides[:2]
    results = tuple(
        Result(w.ref, walk[0], w.strides[1], (w.strides[0], per_out * w.strides[1]))
        for w, walk in zip(ending.every, walks[1:])
    )
    m = Matrices(
        per_out, pixels[0], per_in, f.ref, x.ref, (per_in * item, item), (s_c, walks[0][0]), (x.type.extents[0], f.groups),
        (0, per_out * per_in * item), (s_n, per_in * s_c), results,
    )  # fmt: skip
    emit_product(lo, m, x.type.dtype, ending, info, f.exact)
    return True


def _emit_depthwise(
    lo: CudaLowering, x: Storage, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo
) -> None:
    """Each output by a thread: its channel reads one of the image."""
    n, outputs = x.type.extents[0], f.outputs
    strides, item = five(x.strides), x.type.dtype.itemsize
    sizes = [len(a.taps) for a in axes]
    steps = [a.taps[1] - a.taps[0] if len(a.taps) > 1 else 0 for a in axes]
    begins = [a.begin - (a.taps[0] if a.taps else 0) for a in axes]
    pixels = prod(a.out for a in axes)
    w_h, w_w = sizes[2] * item, item
    args = DEPTHWISE(
        grid=-(-n * outputs * pixels // THREADS), total=n * outputs * pixels, channels=outputs, group=f.per_group,
        x=x.ref, x_n=strides[0], x_c=strides[1], w=f.ref, w_c=prod(sizes) * item, w_d=sizes[1] * w_h, w_h=w_h, w_w=w_w,
        pixels=pixels, **dhw("k d", sizes, steps),
        **(place_words(axes, strides) | dhw("p", begins)), records=[record(w, outputs) for w in ending.every],
    )  # fmt: skip
    kernel = Depthwise(x.type.dtype.name, ending.expression, ending.dtypes)
    lo.emit(kernel, args, replace(info, kernel=str(kernel), algorithm="depthwise"), writes=[ending.result.ref])

"""Conv: products of weights and windows in tiles, plain products where a window is one position, and a loop where each channel
is a group of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from graphc import expr
from graphc.backends.cuda.conv.conv_block import CONV, DEPTHWISE, Conv, Depthwise
from graphc.backends.cuda.conv.filters import Filters, Packed
from graphc.backends.cuda.conv.taps import tap_table
from graphc.backends.cuda.conv.tensor_conv import candidates_of, site_of
from graphc.backends.cuda.conv.window import (
    Axis,
    axes_of,
    channels_last,
    dhw,
    five,
    has_runs,
    is_deep,
    padded,
    place_words,
    record,
    runs_of,
    with_orders,
)
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.channels import of_floats
from graphc.backends.cuda.lower.choices import Candidate
from graphc.backends.cuda.lower.epilogue import Ending, Walked, ending_of, summed
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.lower.sizes import require_near, too_large
from graphc.backends.cuda.product.matrices import Matrices, Result
from graphc.backends.cuda.product.product import emit_product
from graphc.backends.cuda.product.tensor import told
from graphc.backends.cuda.product.tile import TALL, side, tile_for
from graphc.expr import Expr
from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Storage
from graphc.lower.strides import collapse
from graphc.report import StepInfo


def conv_supported(node: Node, target: object) -> str | None:
    if node.output.type.rank > 5:
        return "it has more than three spatial dims"
    return too_large(node) or native_dtypes(node)


@lowers("Conv", supported=conv_supported, epilogue=lambda node: True, channels_last=of_floats)
def lower_conv(lo: CudaLowering, group: Group) -> None:
    node = group.anchor
    v, w = node.inputs[:2]
    ending = conv_end(lo, group)
    if 0 in group.output.shape:
        return
    axes = axes_of(node)
    weights = Packed(w.data, ("dense",), lambda: np.ascontiguousarray(w.data)) if w.is_const else lo.read(w).ref
    taps = tuple(len(a.taps) for a in axes)
    outputs, inputs = w.type.extents[:2]
    filters = Filters(weights, w.dtype, outputs, inputs, node.attrs["group"], taps, node.attrs["exact"])
    emit_conv(lo, v, filters, axes, ending, lo.info(group, "conv"))


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


def emit_conv(lo: CudaLowering, v: Value, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo) -> None:
    """The steps of a convolution of an image. The ending's strides are along [n, channel, *spatial]."""
    k, pixels, x = f.inputs * prod(f.taps), prod(a.out for a in axes), lo.strided(v)
    info = replace(info, reason=f"{f.outputs}x{k} by {pixels} pixels")
    if f.inputs == 1 and f.groups > 1:
        _emit_depthwise(lo, x, f, axes, ending, with_orders(info, x, ending))
    elif all(a.is_plain for a in axes) and _emit_pointwise(lo, x, f, axes, ending, with_orders(info, x, ending)):
        pass
    else:
        tiles = Candidate("CUDA cores", partial(_emit_tiles, lo, x, f, axes, ending, with_orders(info, x, ending)))
        candidates = candidates_of(lo, v, f, axes, ending, info, tiles)
        lo.choices.take(lo, partial(site_of, lo, v, f, axes, ending), candidates)


def _emit_tiles(
    lo: CudaLowering, x: Storage, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo, said: str
) -> None:
    """said: of the choice."""
    k, pixels = f.inputs * prod(f.taps), prod(a.out for a in axes)
    n, m, item, strides = x.type.extents[0], f.per_group, x.type.dtype.itemsize, five(x.strides)
    require_near(n * f.outputs * pixels)
    tile = tile_for(m, pixels, f.groups * n, summed(x.type.dtype).itemsize, TALL)
    tiles_m, tiles_n = -(-m // tile.m), -(-pixels // tile.n)
    args = CONV(
        grid=tiles_m * tiles_n * f.groups * n, tiles_m=tiles_m, tiles_n=tiles_n, m=m, n=pixels, k=k, left=f.rows(lo), right=x.ref,
        **side("left", tile.m, tile.k, tile.threads, k * item, item),
        **side("right", tile.k, tile.n, tile.threads, 2 * item, item),  # neighbouring threads have neighbouring pixels
        dims=padded((f.groups, n), 1), left_batch=padded((m * k * item, 0), 0),
        right_batch=padded((f.inputs * strides[1], strides[0]), 0),
        table=tap_table(lo, axes, f.inputs, strides, tile.k), **place_words(axes, strides), records=[record(w, m) for w in ending.every],
    )  # fmt: skip
    kernel = Conv(x.type.dtype.name, tile, ending.expression, ending.dtypes)
    info = replace(told(info, said), kernel=str(kernel), algorithm=f"tiles of {tile}")
    lo.emit(kernel, args, info, writes=[ending.result.ref])


def _emit_pointwise(
    lo: CudaLowering, x: Storage, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo
) -> bool:
    """As a product of matrices, where every operand walks the pixels as one row of them."""
    per_in, per_out = f.inputs, f.per_group
    every: list[Storage | Walked] = [x, *ending.every]
    strides, outs = [five(w.strides) for w in every], [a.out for a in axes]
    dims, walks = collapse([x.type.extents[0], *outs], [[s[0], *s[2:]] for s in strides])
    if len(dims) == 1:  # all pixels of all images
        images, of_images = 1, [0] * len(every)
    else:
        images, of_images = x.type.extents[0], [s[0] for s in strides]
        dims, walks = collapse(outs, [list(s[2:]) for s in strides])
        if len(dims) > 1:
            return False
    item, s_c = x.type.dtype.itemsize, x.strides[1]
    results = tuple(
        Result(w.ref, walk[0], w.strides[1], (n, per_out * w.strides[1]))
        for w, walk, n in zip(ending.every, walks[1:], of_images[1:])
    )
    m = Matrices(
        per_out, dims[0], per_in, f.rows(lo), x.ref, (per_in * item, item), (s_c, walks[0][0]), (images, f.groups),
        (0, per_out * per_in * item), (of_images[0], per_in * s_c), results,
    )  # fmt: skip
    if channels_last(ending.result):  # neighbouring columns are neighbouring channels
        m = m.turned()
    emit_product(lo, m, x.type.dtype, ending, info, f.exact)
    return True


def _emit_depthwise(
    lo: CudaLowering, x: Storage, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo
) -> None:
    """Each output, or several neighbouring channels of a pixel, by a thread: each reads one channel of the image."""
    n, outputs = x.type.extents[0], f.outputs
    strides = five(x.strides)
    sizes, (weights, (w_c, w_w)) = f.taps, f.columns(lo)
    steps = [a.taps[1] - a.taps[0] if len(a.taps) > 1 else 0 for a in axes]
    begins = [a.begin - (a.taps[0] if a.taps else 0) for a in axes]
    pixels = prod(a.out for a in axes)
    run, wide = runs_of(ending, outputs)
    if run > 1 and not (
        f.per_group == 1 and isinstance(f.weights, Packed) and has_runs(Walked(x.ref, x.type.dtype, x.strides))
    ):
        run, wide = 1, (False,) * len(wide)
    total = n * outputs * pixels // max(run, 1)
    w_h = sizes[2] * w_w
    args = DEPTHWISE(
        grid=-(-total // THREADS), total=total, channels=outputs, group=f.per_group,
        x=x.ref, x_n=strides[0], x_c=strides[1], w=weights, w_c=w_c, w_d=sizes[1] * w_h, w_h=w_h, w_w=w_w,
        pixels=pixels, **dhw("k d", sizes, steps),
        **(place_words(axes, strides) | dhw("p", begins)), records=[record(w, outputs) for w in ending.every],
    )  # fmt: skip
    kernel = Depthwise(x.type.dtype.name, is_deep(axes), run, wide, ending.expression, ending.dtypes)
    lo.emit(kernel, args, replace(info, kernel=str(kernel), algorithm="depthwise"), writes=[ending.result.ref])

"""Convolutions on tensor cores: in which tiles, in how many parts of the sum, and where their operands lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import expr
from graphc.backends.cuda.codegen.widths import power_that_divides, sure_divisor
from graphc.backends.cuda.conv.conv_block import CHUNK, CONV_SUM, TENSOR_CONV, ConvSum, TensorConv
from graphc.backends.cuda.conv.filters import Filters
from graphc.backends.cuda.conv.window import (
    RUN,
    Axis,
    channels_last,
    dhw,
    five,
    is_deep,
    padded,
    record,
    runs_of,
    with_orders,
)
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.choices import Candidate
from graphc.backends.cuda.lower.epilogue import Ending, Walked, summed
from graphc.backends.cuda.lower.sizes import NOWHERE, require_near
from graphc.backends.cuda.product.costs import FAR, LAUNCH, Choice, Problem, beside, on_cuda_cores, ranked
from graphc.backends.cuda.product.tensor import products_of
from graphc.backends.cuda.product.tile import WarpTile, group_tiles, tile_for
from graphc.graph import Value
from graphc.lower.constants import constant
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.lower.strides import collapse
from graphc.report import StepInfo
from graphc.sizes import example, hint_of

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

# for elements of two bytes, and of four; blocks as their registers allow
TILES = {
    2: (
        WarpTile(128, 128, 64, 32, 3),
        WarpTile(128, 64, 32, 32, 3, 2),
        WarpTile(64, 64, 32, 32, 3, 5),
        WarpTile(128, 32, 32, 32, 3, 4),
        WarpTile(128, 16, 32, 16, 3, 5),
    ),
    4: (
        WarpTile(128, 64, 32, 32, 3),
        WarpTile(64, 64, 32, 32, 3, 3),
        WarpTile(128, 32, 32, 32, 3, 3),
        WarpTile(128, 16, 32, 16, 3, 3),
    ),
}
WIDE = WarpTile(128, 128, 64, 32, 3)  # of one product of tf32
NARROW = WarpTile(128, 32, 16, 32, 4, 2, True, 64)  # of half precision, where GPUs have wgmma
SECTOR = 32  # bytes of memory that a write of fewer takes the time of


@dataclass(frozen=True)
class Windows(Problem):
    """Windows [m, k] of an image of so many bytes, which memory is asked for once."""

    image: int = 0

    @property
    def nbytes(self) -> int:
        return self.image + self.item * self.batch * (self.k + self.m) * self.n


def tiles_of(item: int, products: int, groups: bool) -> tuple[WarpTile, ...]:
    """What there is for elements of so many bytes. products: see `TensorProduct`; groups: are there groups of warps?"""
    tiles = (WIDE, *TILES[item]) if item == 4 and products == 1 else TILES[item]
    narrow = {(2, 1): (NARROW,), (4, 1): (replace(NARROW, depth=32),), (4, 3): ()}[item, products]
    return (*group_tiles(item, products), *narrow, *tiles) if groups else tiles


def choices_of(
    lo: CudaLowering, f: Filters, images: Storage, pixels: int, copied: bool, scattered: bool
) -> list[Choice | None]:
    """Tiles and parts, and None for other kernels; the model's choice first. pixels: of all results. copied: do the images have to
    be, to where each pixel begins at a multiple of CHUNK? scattered: do the result's pixels lie apart, so that other kernels
    write each number by itself?"""
    f, card, item, products = example(f), lo.card, f.dtype.itemsize, products_of(lo, f.dtype)
    k, image, pixels = f.width * prod(f.taps), hint_of(images.type.nbytes), hint_of(pixels)
    tiles = tiles_of(item, products, lo.has_groups)
    found = ranked(card, Windows(pixels, f.per_group, k, f.groups, item, products, image), tiles)
    seconds = found[0].seconds + (LAUNCH + 2 * image / card.memory if copied else 0)
    tile = tile_for(f.per_group, pixels, f.groups, summed(f.dtype).itemsize)
    plain = Windows(f.per_group, pixels, f.inputs * prod(f.taps), f.groups, item, 1, image)
    others = on_cuda_cores(card, plain, tile)
    if scattered:
        others += SECTOR * pixels * f.outputs / card.cache
    return beside(found, others < FAR * seconds, seconds >= others)


def is_aligned(x: Storage, group_bytes: int) -> bool:
    """Do the channels of each pixel, and of each group, begin at multiples of CHUNK? group_bytes: 0 of one group."""
    item = x.type.dtype.itemsize
    if x.strides[1] != item:
        return False
    strides = [s for i, (d, s) in enumerate(zip(x.type.extents, x.strides)) if d != 1 and i != 1]
    return sure_divisor(CHUNK, x.ref.offset, group_bytes, *strides) == CHUNK


def candidates_of(
    lo: CudaLowering, v: Value, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo, others: Candidate
) -> list[Candidate]:
    """Of the steps of a convolution, the model's choice first. others: what there is beside tensor cores."""
    item, x = f.dtype.itemsize, lo.strided(v)
    group_bytes = f.inputs * item if f.groups > 1 else 0
    if f.dtype.name not in ("float16", "bfloat16", "float32") or f.exact or group_bytes % CHUNK:
        return [others]
    there = is_aligned(x, group_bytes) or lo.has_pixels(v)
    pixels = x.type.extents[0] * prod(a.out for a in axes)

    def candidate(choice: Choice) -> Candidate:
        def emit(said: str) -> None:
            image = x if is_aligned(x, group_bytes) else lo.pixels(v)
            require_near(pixels * f.outputs)
            _emit(lo, image, f, axes, ending, choice, said, with_orders(info, image, ending))

        return Candidate(choice.name, emit)

    found = choices_of(lo, f, x, pixels, not there, channels_last(ending.result))
    return [others if c is None else candidate(c) for c in found]


def site_of(lo: CudaLowering, v: Value, f: Filters, axes: Sequence[Axis], ending: Ending) -> str:
    """Sizes, strides, and of addresses what they have to do with the width of copies."""
    x = lo.strided(v)
    images = x.type.extents, x.strides, power_that_divides(CHUNK, x.ref.offset), lo.has_pixels(v)
    filters = products_of(lo, f.dtype), f.outputs, f.inputs, f.groups, f.taps, isinstance(f.weights, Ref)
    places = [(power_that_divides(CHUNK, w.ref.offset), w.strides) for w in ending.every]
    return f"conv {f.dtype} {images} {filters} {axes} {ending.expression} {ending.dtypes} {places}"


def _emit(
    lo: CudaLowering,
    x: Storage,
    f: Filters,
    axes: Sequence[Axis],
    ending: Ending,
    choice: Choice,
    said: str,
    info: StepInfo,
) -> None:
    item, strides, n, tile, parts = f.dtype.itemsize, five(x.strides), x.type.extents[0], choice.tile, choice.parts
    k, outs = f.width * prod(f.taps), [a.out for a in axes]
    m, line, depth = n * prod(outs), k * item, -(-k // tile.depth)
    tiles_m, tiles_n = -(-m // tile.m), -(-f.per_group // tile.n)
    flat, records = _pixel_records(n, outs, f.per_group, ending.every)
    expression, dtypes, to = ending.expression, ending.dtypes, ending.result.ref
    if parts > 1:
        to = Ref(Buffer(f"{info.output}/parts", parts * m * f.outputs * 4))
        expression, dtypes = expr.arg(0, np.float32), ()
        partial = {"ref": to, "columns": (f.outputs * 4, 0, 0), "row": 4}
        each = {**partial, "batch": padded((f.per_group * 4, 0, m * f.outputs * 4), 0)}
    args = TENSOR_CONV(
        grid=tiles_m * tiles_n * f.groups * parts, tiles_m=tiles_m, tiles_n=tiles_n, m=m, n=f.per_group, x=x.ref,
        weights=f.lines(lo), line=line, w_group=f.per_group * line, x_n=strides[0], x_group=f.inputs * item,
        channels=f.inputs * item, depth=depth, part=-(-depth // parts), table=_table(lo, axes, f, depth * tile.depth),
        dims=padded((f.groups, parts), 1), **_outs(outs),
        **dhw("in s p x", [a.size for a in axes], [a.stride for a in axes], [a.begin for a in axes], strides[2:]),
        records=[each] if parts > 1 else records,
    )  # fmt: skip
    run, wide = runs_of(ending, f.per_group) if parts == 1 else (RUN if f.per_group % RUN == 0 else 1, ())
    kernel = TensorConv(
        f.dtype.name, tile, is_deep(axes), flat or parts > 1, run, wide, expression, dtypes, products_of(lo, f.dtype)
    )
    how = f"{kernel.how}, tiles of {tile}{f', {parts} parts of the sum' if parts > 1 else ''}"
    info = replace(info, kernel=str(kernel), algorithm=how, reason=f"{info.reason}; {said or choice.on(lo.card)}")
    lo.emit(kernel, args, info, writes=[to])
    if parts > 1:
        total = m * f.outputs
        sum_args = CONV_SUM(
            grid=-(-total // THREADS), total=total, outputs=f.outputs, parts=parts, partial=to, between=total * 4,
            **_outs(outs), records=records,
        )  # fmt: skip
        adds = ConvSum(flat, ending.expression, ending.dtypes)
        info = replace(info, kernel=str(adds), algorithm="the sum of the parts", flops=0, nbytes=0)
        lo.emit(adds, sum_args, info, writes=[ending.result.ref])


def _outs(outs: Sequence[int]) -> dict[str, int]:
    return dict(zip(("out_d", "out_h", "out_w"), outs))


def _pixel_records(
    n: int, outs: Sequence[int], per_group: int, walked: Sequence[Walked]
) -> tuple[bool, list[dict[str, Any]]]:
    """Do all walk the pixels of all images as one row? And their records."""
    strides = [five(w.strides) for w in walked]
    dims, rows = collapse([n, *outs], [[s[0], *s[2:]] for s in strides])
    if len(dims) > 1:
        return False, [record(w, per_group) for w in walked]
    return True, [
        {"ref": w.ref, "columns": (row[0], 0, 0), "row": s[1], "batch": padded((per_group * s[1],), 0)}
        for w, s, row in zip(walked, strides, rows)
    ]


def _table(lo: CudaLowering, axes: Sequence[Axis], f: Filters, depth: int) -> Ref:
    """A row for each chunk of a line of weights: see TENSOR_CONV. Then rows that lie nowhere, to `depth` elements."""
    item = f.dtype.itemsize
    d, h, w = (x.reshape(-1, 1) for x in np.meshgrid(*[np.array(a.taps, np.int64) for a in axes], indexing="ij"))
    within = np.arange(0, f.width * item, CHUNK)[None]
    table = np.zeros((max(depth * item // CHUNK, 1), 2), np.int64)
    count = d.size * within.size
    table[count:, 1] = NOWHERE
    table[:count, 0] = ((d << 32) + within).reshape(-1)
    table[:count, 1] = np.broadcast_to((h << 32) + w, (d.size, within.size)).reshape(-1)
    return constant(lo, table).ref

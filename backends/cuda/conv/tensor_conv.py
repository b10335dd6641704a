"""Convolutions on tensor cores: in which tiles, in how many parts of the sum, and where their operands lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import expr
from graphc.backends.cuda.conv.conv_block import CHUNK, CONV_SUM, TENSOR_CONV, ConvSum, TensorConv
from graphc.backends.cuda.conv.filters import Filters
from graphc.backends.cuda.conv.window import (
    NOWHERE,
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
from graphc.backends.cuda.lower.epilogue import Ending, Walked, summed
from graphc.backends.cuda.product.tensor import products_of
from graphc.backends.cuda.product.tile import DEPTH, MULTIPROCESSORS, WarpTile, tile_for
from graphc.graph import Value
from graphc.lower.constants import constant
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.lower.strides import collapse
from graphc.report import StepInfo

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

LARGE = WarpTile(128, 128, 64, 32, 3)  # of numbers of two bytes: the digits of others fill the registers
TALL = WarpTile(128, 64, 32, 32, 3)
SMALL = WarpTile(64, 64, 32, 32, 3)
NARROW = WarpTile(128, 32, 32, 32, 3)
THIN = WarpTile(128, 16, 32, 16, 3)
TILES = {2: (LARGE, TALL, SMALL, NARROW, THIN), 4: (TALL, SMALL, NARROW, THIN)}
MOST_PARTS = 16
# What a multiprocessor does in a clock, about: products of numbers of 2 or 4 bytes on tensor cores, others, bytes from the cache
TENSOR_RATE = {2: 1024, 4: 512}
PLAIN_RATE = 80
CACHE_RATE = 48
MEMORY_RATE = 1800  # bytes of all of them
LATENCY = 500  # clocks of a step whose block is alone
LAUNCH = 3000
RESIDENT = 512  # threads of a multiprocessor at once


@dataclass(frozen=True)
class Choice:
    """clocks: as estimated. tile: None where other kernels are faster."""

    clocks: float
    tile: WarpTile | None = None
    parts: int = 1


def choose(f: Filters, pixels: int, k: int, copied: int, scattered: int, products: int = 3) -> Choice:
    """products: see `TensorProduct`. k: steps of a sum, with the zeros that fill chunks. copied: bytes of an image that lies otherwise; scattered: of a result
    whose pixels lie apart, which other kernels write in many pieces."""
    item, depth = f.dtype.itemsize, -(-k // DEPTH)
    plain = tile_for(f.per_group, pixels, f.groups, summed(f.dtype).itemsize)
    blocks = f.groups * -(-f.per_group // plain.m) * -(-pixels // plain.n)
    work = max(plain.m * plain.n * plain.k / PLAIN_RATE, LATENCY / 2)
    clocks = LAUNCH + -(-blocks // MULTIPROCESSORS) * -(-f.inputs * prod(f.taps) // plain.k) * work
    rate = TENSOR_RATE[item] / (products if item == 4 else 1)
    found = [Choice(clocks + 4 * scattered / MEMORY_RATE)]
    copy = LAUNCH + 2 * copied / MEMORY_RATE if copied else 0
    for tile in TILES[item]:
        blocks = f.groups * -(-pixels // tile.m) * -(-f.per_group // tile.n)
        work = max(tile.m * tile.n * DEPTH / rate, (tile.m + tile.n) * DEPTH * item / CACHE_RATE)
        parts = 1
        while parts <= MOST_PARTS and 4 * parts <= max(depth, 4):
            each = -(-blocks * parts // MULTIPROCESSORS)
            turns = -(-each * tile.threads // RESIDENT)
            clocks = LAUNCH + copy + -(-depth // parts) * max(work * each, LATENCY * turns)
            if parts > 1:
                clocks += LAUNCH + 8 * parts * pixels * f.outputs / (2 * MEMORY_RATE)
            found.append(Choice(clocks, tile, parts))
            parts *= 2
    return min(found, key=lambda c: c.clocks)


def is_aligned(x: Storage, group_bytes: int) -> bool:
    """Do the channels of each pixel, and of each group, begin at multiples of CHUNK? group_bytes: 0 of one group."""
    item = x.type.dtype.itemsize
    if x.strides[1] != item:
        return False
    strides = [s for i, (d, s) in enumerate(zip(x.type.extents, x.strides)) if d != 1 and i != 1]
    return gcd(CHUNK, x.ref.offset, group_bytes, *strides) == CHUNK


def emit_tensor_conv(
    lo: CudaLowering, v: Value, f: Filters, axes: Sequence[Axis], ending: Ending, info: StepInfo
) -> bool:
    """The steps of a convolution on tensor cores; False where others are faster, or have to do it."""
    item, x = f.dtype.itemsize, lo.strided(v)
    group_bytes = f.inputs * item if f.groups > 1 else 0
    if f.dtype.name not in ("float16", "bfloat16", "float32") or f.exact or group_bytes % CHUNK:
        return False
    there = is_aligned(x, group_bytes) or lo.has_pixels(v)
    width = -(-f.inputs * item // CHUNK) * CHUNK // item
    n, pixels, taps = x.type.extents[0], prod(a.out for a in axes), prod(len(a.taps) for a in axes)
    scattered = n * pixels * f.outputs * item if channels_last(ending.result) else 0
    choice = choose(f, n * pixels, taps * width, 0 if there else x.type.nbytes, scattered, products_of(lo, f.dtype))
    if choice.tile is None:
        return False
    if not is_aligned(x, group_bytes):
        x = lo.pixels(v)
    return _emit(lo, x, f, axes, ending, choice.tile, choice.parts, width, with_orders(info, x, ending))


def _emit(
    lo: CudaLowering, x: Storage, f: Filters, axes: Sequence[Axis], ending: Ending, tile: WarpTile, parts: int, width: int,
    info: StepInfo,
) -> bool:  # fmt: skip
    item, strides, n = f.dtype.itemsize, five(x.strides), x.type.extents[0]
    taps, outs = prod(len(a.taps) for a in axes), [a.out for a in axes]
    m, line = n * prod(outs), taps * width * item
    depth = -(-taps * width // DEPTH)
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
        weights=f.lines(lo, width), line=line, w_group=f.per_group * line, x_n=strides[0], x_group=f.inputs * item,
        channels=f.inputs * item, depth=depth, part=-(-depth // parts), table=_table(lo, axes, f, width, depth),
        dims=padded((f.groups, parts), 1), **_outs(outs),
        **dhw("in s p x", [a.size for a in axes], [a.stride for a in axes], [a.begin for a in axes], strides[2:]),
        records=[each] if parts > 1 else records,
    )  # fmt: skip
    run, wide = runs_of(ending, f.per_group) if parts == 1 else (RUN if f.per_group % RUN == 0 else 1, ())
    kernel = TensorConv(
        f.dtype.name, tile, is_deep(axes), flat or parts > 1, run, wide, expression, dtypes, products_of(lo, f.dtype)
    )
    how = f"{kernel.how}, tiles of {tile}{f', {parts} parts of the sum' if parts > 1 else ''}"
    lo.emit(kernel, args, replace(info, kernel=str(kernel), algorithm=how), writes=[to])
    if parts > 1:
        total = m * f.outputs
        sum_args = CONV_SUM(
            grid=-(-total // THREADS), total=total, outputs=f.outputs, parts=parts, partial=to, between=total * 4,
            **_outs(outs), records=records,
        )  # fmt: skip
        adds = ConvSum(flat, ending.expression, ending.dtypes)
        info = replace(info, kernel=str(adds), algorithm="the sum of the parts", flops=0, nbytes=0)
        lo.emit(adds, sum_args, info, writes=[ending.result.ref])
    return True


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


def _table(lo: CudaLowering, axes: Sequence[Axis], f: Filters, width: int, depth: int) -> Ref:
    """A row for each chunk of a line of weights: see TENSOR_CONV. Then rows that lie nowhere, to a whole step."""
    item = f.dtype.itemsize
    d, h, w = (x.reshape(-1, 1) for x in np.meshgrid(*[np.array(a.taps, np.int64) for a in axes], indexing="ij"))
    within = np.arange(0, width * item, CHUNK)[None]
    table = np.zeros((max(depth, 1) * DEPTH * item // CHUNK, 2), np.int64)
    count = d.size * within.size
    table[count:, 1] = NOWHERE
    table[:count, 0] = ((d << 32) + within).reshape(-1)
    table[:count, 1] = np.broadcast_to((h << 32) + w, (d.size, within.size)).reshape(-1)
    return constant(lo, table).ref

"""Attention of half precision, on tensor cores: in which tiles, and how its operands are copied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import e, log2
from typing import TYPE_CHECKING, Any

from graphc.backends.cuda.attention.attention_block import TENSOR_ATTENTION, KeyTile, TensorAttention
from graphc.backends.cuda.attention.costs import Choice, Problem, best
from graphc.backends.cuda.attention.operands import Use, bits_of, emit_in_parts, words_of
from graphc.backends.cuda.codegen.widths import sure_divisor
from graphc.backends.cuda.lower.sizes import require_near
from graphc.backends.cuda.product.tensor import CHUNK, chunk_of
from graphc.report import StepInfo
from graphc.sizes import example, hint_of

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

HALVES = ("float16", "bfloat16")
ITEM = 2
LARGEST = 256  # elements of a head: sums of more do not fit into registers
DEPTH = 16  # in shared memory, heads have a multiple of so many elements
LOG2E = log2(e)
LEAST_SCALE = 1e-30  # takes the place of 0, times which hidden scores would be no number
SIGNS = 0x80008000  # of two elements

# By the largest head: tiles for few rows, for more, for many, and for many under a mask, whose addresses need registers. Warps of 32
# rows read keys and values half as often as those of 16.
TILES = {
    64: (
        KeyTile(16, 64, 1, 4, 3, 4),
        KeyTile(64, 64, 4, 1, 2, 3),
        KeyTile(128, 64, 4, 1, 2, 2),
        KeyTile(128, 32, 4, 1, 2, 2),
    ),
    128: (
        KeyTile(16, 64, 1, 4, 2, 2),
        KeyTile(64, 64, 4, 1, 2, 2),
        KeyTile(128, 64, 4, 1, 2, 2, kept=False),
        KeyTile(64, 64, 4, 1, 2, 2),
    ),
    256: (KeyTile(16, 32, 1, 2, 2, 2, kept=False), *[KeyTile(64, 32, 4, 1, 2, 2, kept=False)] * 3),
}


def emit_on_tensor_cores(lo: CudaLowering, u: Use, splits_of: Callable[[Any, Any], Any], info: StepInfo) -> None:
    attrs = u.node.call.attrs
    require_near(u.kv_batch * u.rows)
    mask = _of_mask(u)
    choice = choice_of(lo, u, mask > 0, splits_of)
    tile = choice.tile
    tiles = -(-u.rows // tile.rows)
    splits = splits_of(u.kv_batch * tiles, -(-u.keys // tile.keys))
    split = splits != 1
    q_chunk, k_chunk, v_chunk = (chunk_of(o.ref, o.strides) for o in u.operands)
    kernel = TensorAttention(
        u.dtype.name, tile, in_shared(u.size), in_shared(u.v_size), q_chunk, k_chunk, v_chunk, _run(u, split), bool(split),
        mask, bool(attrs.softcap),
    )  # fmt: skip
    scale = max(abs(attrs.scale), LEAST_SCALE)
    scales = (scale / attrs.softcap, attrs.softcap * LOG2E) if attrs.softcap else (scale * LOG2E, 0.0)
    args = partial(
        TENSOR_ATTENTION, scale=bits_of(scales[0]), softcap=bits_of(scales[1]), signs=SIGNS if attrs.scale < 0 else 0,
        **words_of(lo, u),
    )  # fmt: skip
    reason = f"{info.reason}; {choice.on(lo.card)}"
    info = replace(info, kernel=str(example(kernel)), algorithm=f"tensor cores, tiles of {tile}", reason=reason)
    emit_in_parts(lo, u, kernel, splits, tiles, args, info)


def tiles_of(size: int, masked: bool) -> tuple[KeyTile, ...]:
    """Those for heads of that size."""
    few, middle, many, under_mask = TILES[next(most for most in TILES if size <= most)]
    return few, middle, under_mask if masked else many


def choice_of(lo: CudaLowering, u: Use, masked: bool, splits_of: Callable[[Any, Any], Any]) -> Choice:
    """The tile. Where sizes are open, those of the example decide: any tile computes any attention."""
    p = Problem(*(hint_of(n) for n in (u.kv_batch, u.rows, u.keys, u.size, u.v_size)))
    tiles = tiles_of(max(p.size, p.v_size), masked)
    parts = [splits_of(p.heads * -(-p.rows // t.rows), -(-p.keys // t.keys)) for t in tiles]
    return best(lo.card, p, [*zip(tiles, parts)])


def in_shared(size: int) -> int:
    """Elements of a head in shared memory."""
    return -(-size // DEPTH) * DEPTH


def _run(u: Use, split: bool) -> int:
    """Elements that are written at once."""
    if split:
        return sure_divisor(2, u.v_size)  # rows of parts have two more floats
    return min(sure_divisor(CHUNK // ITEM, u.v_size), sure_divisor(CHUNK, u.y.ref.offset, *u.y.strides) // ITEM)


def _of_mask(u: Use) -> int:
    """See `TensorAttention`: pairs where they begin at multiples of their bytes, and none has one key alone."""
    if u.mask is None:
        return 0
    *outer, step = u.mask.strides
    in_row = step == ITEM and sure_divisor(2, u.keys) == 2
    return 2 if in_row and sure_divisor(2 * ITEM, u.mask.ref.offset, *outer) == 2 * ITEM else 1

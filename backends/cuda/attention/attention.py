"""FusedAttention in tiles of queries that walk over tiles of keys and values."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from graphc.backends.cuda.attention.attention_block import ATTENTION, DOWN, SIZES, Attention
from graphc.backends.cuda.attention.operands import Use, bits_of, emit_in_parts, use_of, words_of
from graphc.backends.cuda.attention.tensor_attention import HALVES, emit_on_tensor_cores
from graphc.backends.cuda.attention.tensor_attention import LARGEST as LARGEST_HALF
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.lower.sizes import either, too_large
from graphc.backends.cuda.product.tile import MULTIPROCESSORS
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.ops.fused_attention import heads_of
from graphc.report import StepInfo
from graphc.sizes import largest, smallest, where

LARGEST = 512  # elements of a head: more do not fit into shared memory
LEAST_TILES = 4  # of keys in a split
BLOCKS = 2 * MULTIPROCESSORS  # with fewer, keys are split


def attention_supported(node: Node, target: Any = None) -> str | None:
    dtype = node.output.dtype
    if dtype != np.float32 and dtype.name not in HALVES:
        return f"attention has no {dtype} kernel"
    if node.inputs[1].dtype != dtype:
        return "keys and values are of another dtype than queries"
    s, most = heads_of(node.call), LARGEST if dtype == np.float32 else LARGEST_HALF
    if not s.keys:
        return "there are no keys"
    if any(isinstance(n, int) and n > most for n in (s.size, s.v_size)):
        return f"heads of more than {most} elements"
    return too_large(node)


@lowers("FusedAttention", supported=attention_supported)
def lower_attention(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    u = use_of(lo, node, y)
    info = lo.info(group, "attention", "", f"{u.queries} queries, {u.keys} keys of {u.s.heads} heads of {u.size}")
    if u.dtype == np.float32:
        _emit_on_cores(lo, u, info)
    else:
        emit_on_tensor_cores(lo, u, splits_of, info)


def _emit_on_cores(lo: CudaLowering, u: Use, info: StepInfo) -> None:
    tile_rows, tile_keys = tile_of(u.kv_batch, u.rows, max(u.size, u.v_size))
    tiles, attrs = -(-u.rows // tile_rows), u.node.call.attrs
    splits = splits_of(u.kv_batch * tiles, -(-u.keys // tile_keys))
    scales = {"scale": bits_of(attrs.scale / (attrs.softcap or 1.0)), "softcap": bits_of(attrs.softcap)}
    kernel = Attention(in_shared(u.size), in_shared(u.v_size), tile_rows, tile_keys)
    args = partial(ATTENTION, fours=-(-u.size // 4), key_fours=tile_keys // 4, **scales, **words_of(lo, u))
    info = replace(info, kernel=str(kernel), algorithm=f"tiles of {tile_rows}x{tile_keys}")
    emit_in_parts(lo, u, kernel, splits, tiles, args, info)


def tile_of(heads: int, rows: int, size: int) -> tuple[int, int]:
    """Rows and keys of a tile: many rows, so that each key and value that was fetched is used often, where that leaves
    every multiprocessor something to do. heads: of keys in all batch entries; size: of a head."""
    if rows <= DOWN:
        return DOWN, 64 if size <= 64 else 32 if size <= 128 else 16
    large = 8 * DOWN
    if size > 128:
        return (4 if size <= 256 else 2) * DOWN, 16
    enough = where(heads * -(-rows // large) - MULTIPROCESSORS + 1, 1, 0)
    return either(where(rows - large // 2, enough, 0), large, 4 * DOWN), 32


def in_shared(size: int) -> int:
    """Elements of a head in shared memory."""
    return -(-size // SIZES) * SIZES


def splits_of(blocks: int, key_tiles: int) -> int:
    """Parts of the keys that blocks of their own look at. blocks: that there are without; key_tiles: of all keys."""
    several = largest(1, smallest(BLOCKS // blocks, key_tiles // LEAST_TILES))
    return where(blocks - MULTIPROCESSORS + 1, 1, several)
